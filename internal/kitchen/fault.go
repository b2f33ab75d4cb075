package kitchen

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/report"
)

// fault is an error that says how it is answered.
type fault struct {
	code int
	what string
	next string // the next step
}

func (f fault) Error() string { return f.what }

// Hint is the next step.
func (f fault) Hint() string { return f.next }

// asFault finds out what an error is to whoever asked.
func asFault(err error) fault {
	var f fault
	var choice choiceError
	var unknown *history.NotFoundError
	var large *http.MaxBytesError
	var hinted interface{ Hint() string }
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &choice):
		f = fault{http.StatusUnprocessableEntity, choice.what, "choose from what the project's page offers"}
	case errors.As(err, &unknown):
		f = fault{http.StatusNotFound, err.Error(), "look for it in the history"}
	case errors.As(err, &large):
		f = fault{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request has more than %d kB", large.Limit>>10), "send less: no form and no call of this server needs as much"}
	case errors.Is(err, errQueueFull):
		f = fault{http.StatusServiceUnavailable, err.Error(), "wait, or take some out of the queue"}
	case errors.Is(err, errClosing):
		f = fault{http.StatusServiceUnavailable, err.Error(), "ask again when it has been started again"}
	default:
		f = fault{http.StatusInternalServerError, err.Error(), "ask again; where it stays so, `lighter doctor` says what does not work on the server's machine"}
		if errors.As(err, &hinted) {
			f.next = hinted.Hint()
		}
	}
	return f
}

func isAPI(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/metrics" || strings.HasSuffix(r.URL.Path, "/events")
}

// refuse answers a request with an error: a page, or JSON where a program asks.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, code int, what, next string) {
	what = report.Clean(what)
	if isAPI(r) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": what, "next": next})
		return
	}
	s.page(w, r, code, "error", fmt.Sprintf("%d %s", code, http.StatusText(code)), fault{code, what, next})
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := asFault(err)
	if f.code == http.StatusServiceUnavailable || f.code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "5")
	}
	s.refuse(w, r, f.code, f.what, f.next)
}
