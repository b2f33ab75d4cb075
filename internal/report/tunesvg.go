package report

func (t *Tuning) SVG() string           { return "" }
func (t *Tuning) HTML() ([]byte, error) { return nil, nil }
