package kitchen

import "sync"

// limiter bounds what is open at a time: of all clients, and of one.
type limiter struct {
	all, each int

	mu   sync.Mutex
	open map[string]int
	n    int
}

// take answers how to give back, or nil where there is no room.
func (l *limiter) take(client string) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= l.all || l.open[client] >= l.each {
		return nil
	}
	if l.open == nil {
		l.open = map[string]int{}
	}
	l.open[client]++
	l.n++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.n--
		if l.open[client]--; l.open[client] == 0 {
			delete(l.open, client)
		}
	})
}

func (l *limiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}
