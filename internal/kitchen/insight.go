package kitchen

// Insight is what other rooms know, for pages of their own.
type Insight interface{}
