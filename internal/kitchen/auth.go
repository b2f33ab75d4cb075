package kitchen

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	bearer       = "Bearer "
	sessionName  = "lighter-kitchen"
	sessionLife  = 12 * time.Hour
	maxSessions  = 1000
	attemptsEach = 10 // failed logins of one client in a minute
	attemptsAll  = 60
	// Wrong tokens of one client in a minute. A program that has an old one must not shut
	// out its neighbours behind the same address.
	attemptsToken = 100
)

// door decides who comes in, where somebody has to log in at all.
type door struct {
	config *Config
	secure bool          // cookies go over TLS only
	life   time.Duration // of a login

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]session // by the hash of the cookie
	failed   map[string]int                // logins of this minute
	tokens   map[string]int                // wrong ones of this minute
	all      int
	minute   time.Time
	checking sync.Mutex // one bcrypt at a time: it is meant to be slow
}

// session is a login: its context ends with it.
type session struct {
	who string
	ctx context.Context
	end context.CancelFunc
}

// who is the account of a request; false where it has to log in first.
func (d *door) who(r *http.Request) (string, bool) {
	if d == nil {
		return "", true
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearer); ok {
		return "token", d.token(token)
	}
	s, ok := d.session(r)
	return s.who, ok
}

// session is that of a request's cookie.
func (d *door) session(r *http.Request) (session, bool) {
	c, err := r.Cookie(sessionName)
	if err != nil {
		return session{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.sessions[sha256.Sum256([]byte(c.Value))]
	return s, ok && s.ctx.Err() == nil
}

// stay is how long an answer that goes on may: as its request, and no longer than the
// login.
func (d *door) stay(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	if d == nil || strings.HasPrefix(r.Header.Get("Authorization"), bearer) {
		return ctx, cancel
	}
	s, ok := d.session(r)
	if !ok { // it has ended since it was looked at
		cancel()
		return ctx, cancel
	}
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// token compares hashes, in a time that says nothing.
func (d *door) token(token string) bool {
	want, _ := hex.DecodeString(strings.TrimPrefix(d.config.TokenHash, "sha256:"))
	sum := sha256.Sum256([]byte(token))
	return len(want) > 0 && subtle.ConstantTimeCompare(sum[:], want) == 1
}

// login answers who that is; "" where it is nobody.
func (d *door) login(user, secret string) string {
	if user == "" {
		if d.token(secret) {
			return "token"
		}
		return ""
	}
	d.checking.Lock()
	defer d.checking.Unlock()
	hash := d.config.PasswordHash
	if hash == "" {
		return ""
	}
	right := bcrypt.CompareHashAndPassword([]byte(hash), []byte(secret)) == nil
	same := subtle.ConstantTimeCompare([]byte(user), []byte(d.config.User)) == 1
	if right && same {
		return user
	}
	return ""
}

// try counts an attempt, before it is known what becomes of it: a hundred at the same
// time are no way around. Guessing is slow, for one client and for many.
func (d *door) try(client string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin()
	if d.failed[client] >= attemptsEach || d.all >= attemptsAll {
		return false
	}
	d.failed[client]++
	d.all++
	return true
}

// begin is the minute of now; the caller holds mu.
func (d *door) begin() {
	if now := time.Now(); d.failed == nil || now.Sub(d.minute) > time.Minute {
		d.minute, d.failed, d.tokens, d.all = now, map[string]int{}, map[string]int{}, 0
	}
}

// guesses tells a client that has sent so many wrong tokens that no other is looked at.
func (d *door) guesses(r *http.Request, client string) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearer)
	if d == nil || !ok {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin()
	if d.tokens[client] >= attemptsToken {
		return true
	}
	if !d.token(token) {
		d.tokens[client]++
	}
	return false
}

// right takes an attempt back that was none to guess.
func (d *door) right(client string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[client] = max(d.failed[client]-1, 0) // a minute may have begun meanwhile
	d.all = max(d.all-1, 0)
}

// open begins a session.
func (d *door) open(w http.ResponseWriter, who string) {
	value := rand.Text()
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, s := range d.sessions {
		if s.ctx.Err() != nil || len(d.sessions) >= maxSessions {
			s.end()
			delete(d.sessions, k)
		}
	}
	if d.sessions == nil {
		d.sessions = map[[sha256.Size]byte]session{}
	}
	ctx, end := context.WithTimeout(context.Background(), d.life)
	d.sessions[sha256.Sum256([]byte(value))] = session{who, ctx, end}
	http.SetCookie(w, &http.Cookie{
		Name: sessionName, Value: value, Path: "/", MaxAge: int(d.life / time.Second),
		HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteStrictMode,
	})
}

func (d *door) close(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(sessionName); err == nil {
		sum := sha256.Sum256([]byte(c.Value))
		d.mu.Lock()
		if s, ok := d.sessions[sum]; ok {
			s.end()
		}
		delete(d.sessions, sum)
		d.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: sessionName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteStrictMode})
}

// admit lets in who has logged in; people are sent to the page for that.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := r.URL.Path == "/login" || strings.HasPrefix(r.URL.Path, "/assets/")
		if !open && s.door.guesses(r, s.client(r)) {
			s.guessed(w, r)
			return
		}
		if _, ok := s.door.who(r); ok || open {
			next.ServeHTTP(w, r)
			return
		}
		if r.Method == http.MethodGet && !isAPI(r) {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		s.refuse(w, r, http.StatusUnauthorized, "not logged in", "send Authorization: Bearer with the token, or log in at /login")
	})
}

// guessed answers who has failed too often.
func (s *Server) guessed(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "60")
	s.refuse(w, r, http.StatusTooManyRequests, "too many failed logins", "wait a minute")
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, http.StatusOK, "login", "Log in", nil)
}

func (s *Server) logIn(w http.ResponseWriter, r *http.Request) {
	client := s.client(r)
	if s.door == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if !s.door.try(client) {
		s.guessed(w, r)
		return
	}
	who := s.door.login(r.PostFormValue("user"), r.PostFormValue("secret"))
	if who == "" {
		s.page(w, r, http.StatusUnauthorized, "login", "Log in", "That is not right: check both fields, and leave the user empty where you have a token.")
		return
	}
	s.door.right(client)
	s.door.open(w, who)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) logOut(w http.ResponseWriter, r *http.Request) {
	if s.door != nil {
		s.door.close(w, r)
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
