package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// get asks and decodes the answer.
func (d *docker) get(ctx context.Context, path string, into any) error {
	resp, err := d.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("answer to %s: %w", path, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return nil
}

func (d *docker) tag(ctx context.Context, image, name string) error {
	i := strings.LastIndex(name, ":")
	q := url.Values{"repo": {name[:i]}, "tag": {name[i+1:]}}
	resp, err := d.do(ctx, http.MethodPost, "/images/"+url.PathEscape(image)+"/tag?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// send is the sender of POST /images/load.
func (d *docker) send(ctx context.Context, write func(io.Writer) error) error {
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		wrote <- err
	}()
	resp, err := d.do(ctx, http.MethodPost, "/images/load?quiet=1", r)
	if err == nil {
		err = loadAnswer(resp)
	}
	r.CloseWithError(io.ErrClosedPipe) // nobody reads on
	if werr := <-wrote; werr != nil && !errors.Is(werr, errSink) {
		return werr
	}
	return err
}

// loadAnswer reads the messages that come while and after a load.
func loadAnswer(resp *http.Response) error {
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var m struct{ Error string }
		err := dec.Decode(&m)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("answer: %w", err)
		case m.Error != "":
			return errors.New(oneLine(m.Error))
		}
	}
}

// statusError is an answer that is not 2xx.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

// do asks; the answer's status is 2xx, or it is an error.
func (d *docker) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := d.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) && ctx.Err() == nil {
			// The URL is made up, the host is in every message already, and ssh
			// is talkative.
			err = errors.New(oneLine(u.Err.Error()))
		}
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	var m struct{ Message string }
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(raw, &m) != nil || m.Message == "" {
		m.Message = resp.Status + ": " + string(raw)
	}
	return nil, &statusError{resp.StatusCode, oneLine(m.Message)}
}
