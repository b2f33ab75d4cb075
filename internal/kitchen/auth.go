package kitchen

import (
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
	sessionName  = "lighter-kitchen"
	sessionLife  = 12 * time.Hour
	maxSessions  = 1000
	attemptsEach = 10 // failed logins of one client in a minute
	attemptsAll  = 60
)

// door decides who comes in, where somebody has to log in at all.
type door struct {
	config *Config
	secure bool // cookies go over TLS only

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]session // by the hash of the cookie
	failed   map[string]int                // logins of this minute
	all      int
	minute   time.Time
	checking sync.Mutex // one bcrypt at a time: it is meant to be slow
}

type session struct {
	who string
	end time.Time
}

// who is the account of a request; false where it has to log in first.
func (d *door) who(r *http.Request) (string, bool) {
	if d == nil {
		return "", true
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return "token", d.token(token)
	}
	c, err := r.Cookie(sessionName)
	if err != nil {
		return "", false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.sessions[sha256.Sum256([]byte(c.Value))]
	return s.who, ok && time.Now().Before(s.end)
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

// mayTry counts failures: guessing is slow, for one client and for many.
func (d *door) mayTry(client string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.minute) > time.Minute {
		d.minute, d.failed, d.all = now, map[string]int{}, 0
	}
	return d.failed[client] < attemptsEach && d.all < attemptsAll
}

func (d *door) wrong(client string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = map[string]int{}
	}
	d.failed[client]++
	d.all++
}

// open begins a session.
func (d *door) open(w http.ResponseWriter, who string) {
	value := rand.Text()
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for k, s := range d.sessions {
		if now.After(s.end) || len(d.sessions) >= maxSessions {
			delete(d.sessions, k)
		}
	}
	if d.sessions == nil {
		d.sessions = map[[sha256.Size]byte]session{}
	}
	d.sessions[sha256.Sum256([]byte(value))] = session{who, now.Add(sessionLife)}
	http.SetCookie(w, &http.Cookie{
		Name: sessionName, Value: value, Path: "/", MaxAge: int(sessionLife / time.Second),
		HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteStrictMode,
	})
}

func (d *door) close(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(sessionName); err == nil {
		d.mu.Lock()
		delete(d.sessions, sha256.Sum256([]byte(c.Value)))
		d.mu.Unlock()
	}
	http.SetCookie(w, &http.Cookie{Name: sessionName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteStrictMode})
}

// admit lets in who has logged in; people are sent to the page for that.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := r.URL.Path == "/login" || strings.HasPrefix(r.URL.Path, "/assets/")
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

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, http.StatusOK, "login", "Log in", nil)
}

func (s *Server) logIn(w http.ResponseWriter, r *http.Request) {
	client := s.client(r)
	if s.door == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if !s.door.mayTry(client) {
		w.Header().Set("Retry-After", "60")
		s.refuse(w, r, http.StatusTooManyRequests, "too many failed logins", "wait a minute")
		return
	}
	who := s.door.login(r.PostFormValue("user"), r.PostFormValue("secret"))
	if who == "" {
		s.door.wrong(client)
		s.page(w, r, http.StatusUnauthorized, "login", "Log in", "That is not right: check both fields, and leave the user empty where you have a token.")
		return
	}
	s.door.open(w, who)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) logOut(w http.ResponseWriter, r *http.Request) {
	if s.door != nil {
		s.door.close(w, r)
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
