package registrytest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	tokenService = "lighter-test-registry"
	tokenIssuer  = "lighter-test-issuer"
)

// Tokens is a token server as the distribution token specification describes
// it: basic credentials in, a signed JWT out. Anonymous callers may pull.
type Tokens struct {
	URL    string       // the realm
	Issued atomic.Int64 // how many tokens were given out
	Denied atomic.Int64 // how many callers had a wrong password

	ca    *authority
	users map[string]string
	life  time.Duration
}

// startTokens serves them with TLS where the registry has an authority.
func startTokens(t testing.TB, opts Options, signer *authority) *Tokens {
	tk := &Tokens{ca: newAuthority(t), users: opts.Users, life: opts.TokenLife}
	if tk.life == 0 {
		tk.life = 5 * time.Minute
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(tk.serve))
	t.Cleanup(srv.Close)
	if signer == nil {
		srv.Start()
	} else {
		crt, key := signer.serverPair(t)
		pair, err := tls.X509KeyPair(crt, key)
		if err != nil {
			t.Fatal(err)
		}
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that trust nobody
		srv.StartTLS()
	}
	// By name: go-containerregistry refuses realms that are private addresses.
	tk.URL = strings.Replace(srv.URL, "127.0.0.1", "localhost", 1) + "/token"
	return tk
}

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (tk *Tokens) serve(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, password, basic := r.BasicAuth()
	switch r.Form.Get("grant_type") {
	case "refresh_token": // an identity token is "user:password" here
		user, password, basic = cut(r.Form.Get("refresh_token"))
	case "password": // what BuildKit sends
		user, password, basic = r.Form.Get("username"), r.Form.Get("password"), true
	}
	if basic {
		if want, ok := tk.users[user]; !ok || want != password {
			tk.Denied.Add(1)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"wrong account or password"}]}`))
			return
		}
	}
	var grants []access
	for _, scopes := range r.Form["scope"] {
		for _, scope := range strings.Fields(scopes) {
			kind, rest, _ := strings.Cut(scope, ":")
			i := strings.LastIndexByte(rest, ':')
			if i < 0 {
				continue
			}
			var actions []string
			for _, a := range strings.Split(rest[i+1:], ",") {
				if a == "pull" && (basic || len(tk.users) == 0) || basic {
					actions = append(actions, a)
				}
			}
			if len(actions) > 0 {
				grants = append(grants, access{kind, rest[:i], actions})
			}
		}
	}
	token, err := tk.sign(user, grants)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	tk.Issued.Add(1)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": int(tk.life.Seconds())})
}

func cut(s string) (string, string, bool) {
	user, password, ok := strings.Cut(s, ":")
	return user, password, ok
}

// sign answers an ES256 JWT whose header carries the certificate, which is how
// distribution 2.8 finds the key.
func (tk *Tokens) sign(subject string, grants []access) (string, error) {
	now := time.Now()
	header, err := json.Marshal(map[string]any{
		"typ": "JWT", "alg": "ES256",
		"x5c": []string{base64.StdEncoding.EncodeToString(tk.ca.cert.Raw)},
	})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": tokenIssuer, "sub": subject, "aud": tokenService,
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(tk.life).Unix(),
		"jti": strconv.FormatInt(now.UnixNano(), 36), "access": grants,
	})
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	payload := enc.EncodeToString(header) + "." + enc.EncodeToString(claims)
	sum := sha256.Sum256([]byte(payload))
	r, s, err := ecdsa.Sign(rand.Reader, tk.ca.key, sum[:])
	if err != nil {
		return "", err
	}
	sig := make([]byte, 64) // r and s, 32 bytes each: RFC 7518, section 3.4
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return payload + "." + enc.EncodeToString(sig), nil
}
