// Package ghatest runs what is known of GitHub's cache, for tests: none of them reaches
// GitHub.
package ghatest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Service gives out keys and addresses (twirp over JSON), and has the storage behind
// them (Azure's block blobs), with GitHub's scopes, and entries that never change.
type Service struct {
	*httptest.Server

	mu      sync.Mutex
	entries []*kept // the newest last
	asked   int     // addresses that were given out
	expired int     // of those, the first ones that are good no more
	trouble int     // how many answers of the storage will be 503
}

// kept is an entry.
type kept struct {
	scope, key string
	b          []byte
	blocks     map[string][]byte
	done       bool
}

// Start runs one until the test ends.
func Start(t testing.TB) *Service {
	s := &Service{}
	mux := http.NewServeMux()
	const twirp = "POST /twirp/github.actions.results.api.v1.CacheService/"
	mux.HandleFunc(twirp+"CreateCacheEntry", s.create)
	mux.HandleFunc(twirp+"FinalizeCacheEntryUpload", s.finalize)
	mux.HandleFunc(twirp+"GetCacheEntryDownloadURL", s.lookup)
	mux.HandleFunc("PUT /blob/{id}", s.put)
	mux.HandleFunc("GET /blob/{id}", s.get)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// Token is one that writes to the first scope, unless that begins with "read:", and
// reads all of them.
func Token(scopes ...string) string {
	ac := []map[string]any{}
	for i, name := range scopes {
		permission := 1
		if i == 0 && !strings.HasPrefix(name, "read:") {
			permission = 3
		}
		ac = append(ac, map[string]any{"Scope": strings.TrimPrefix(name, "read:"), "Permission": permission})
	}
	access, _ := json.Marshal(ac)
	claims, _ := json.Marshal(map[string]any{"ac": string(access), "nbf": 1, "exp": time.Now().Add(time.Hour).Unix()})
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"HS256"}`)) + "." + part(claims) + "." + part([]byte("signature"))
}

// scopes reads the token of a request.
func scopes(r *http.Request) (all []string, write string) {
	fields := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	if len(fields) != 3 {
		return nil, ""
	}
	raw, _ := base64.RawURLEncoding.DecodeString(fields[1])
	var claims struct{ AC string }
	_ = json.Unmarshal(raw, &claims)
	var list []struct {
		Scope      string
		Permission int
	}
	_ = json.Unmarshal([]byte(claims.AC), &list)
	for _, sc := range list {
		all = append(all, sc.Scope)
		if sc.Permission&2 != 0 && write == "" {
			write = sc.Scope
		}
	}
	return all, write
}

type ask struct {
	Key         string
	Version     string   // one for all
	RestoreKeys []string `json:"restore_keys"`
	Size        int64    `json:"size_bytes"`
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Service) read(w http.ResponseWriter, r *http.Request) (a ask, all []string, write string, ok bool) {
	all, write = scopes(r)
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil || len(all) == 0 || a.Key == "" || len(a.Key) > 512 || strings.Contains(a.Key, ",") {
		answer(w, http.StatusBadRequest, map[string]string{"code": "invalid_argument", "msg": fmt.Sprint(err)})
		return a, nil, "", false
	}
	return a, all, write, true
}

func (s *Service) create(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, _, write, ok := s.read(w, r)
	switch {
	case !ok:
	case write == "":
		answer(w, http.StatusForbidden, map[string]string{"code": "permission_denied", "msg": "cache write denied"})
	case slices.ContainsFunc(s.entries, func(k *kept) bool { return k.scope == write && k.key == a.Key }):
		answer(w, http.StatusConflict, map[string]string{"code": "already_exists", "msg": "cache entry with the same key, version, and scope already exists"})
	default:
		s.entries = append(s.entries, &kept{scope: write, key: a.Key, blocks: map[string][]byte{}})
		answer(w, http.StatusOK, map[string]any{"ok": true, "signed_upload_url": s.address(len(s.entries) - 1)})
	}
}

func (s *Service) address(id int) string {
	s.asked++
	return fmt.Sprintf("%s/blob/%d?sig=%d", s.URL, id, s.asked)
}

func (s *Service) finalize(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, _, write, ok := s.read(w, r)
	if !ok {
		return
	}
	for i, k := range s.entries {
		if k.scope == write && k.key == a.Key && !k.done && int64(len(k.b)) == a.Size {
			k.done = true
			answer(w, http.StatusOK, map[string]any{"ok": true, "entry_id": strconv.Itoa(i)})
			return
		}
	}
	answer(w, http.StatusOK, map[string]any{"ok": false})
}

// lookup goes through the scopes; in each the key itself counts, then the newest
// that begins with one of the others.
func (s *Service) lookup(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, all, _, ok := s.read(w, r)
	if !ok {
		return
	}
	for _, scope := range all {
		for _, matches := range []func(key string) bool{
			func(key string) bool { return key == a.Key },
			func(key string) bool {
				return slices.ContainsFunc(a.RestoreKeys, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
			},
		} {
			for i, k := range slices.Backward(s.entries) {
				if k.done && k.scope == scope && matches(k.key) {
					answer(w, http.StatusOK, map[string]any{"ok": true, "signed_download_url": s.address(i), "matched_key": k.key})
					return
				}
			}
		}
	}
	answer(w, http.StatusOK, map[string]any{"ok": false})
}

// entry is what an address is of; nil where that is good no more.
func (s *Service) entry(w http.ResponseWriter, r *http.Request) *kept {
	w.Header().Set("x-ms-request-id", "1")
	id, _ := strconv.Atoi(r.PathValue("id"))
	sig, _ := strconv.Atoi(r.URL.Query().Get("sig"))
	switch {
	case s.trouble > 0:
		s.trouble--
		w.WriteHeader(http.StatusServiceUnavailable)
	case sig <= s.expired || id >= len(s.entries):
		w.WriteHeader(http.StatusForbidden)
	default:
		return s.entries[id]
	}
	return nil
}

// put is Put Blob, Put Block or Put Block List.
func (s *Service) put(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.entry(w, r)
	if k == nil {
		return
	}
	switch q := r.URL.Query(); {
	case err != nil || k.done:
		w.WriteHeader(http.StatusBadRequest)
		return
	case q.Get("comp") == "block":
		k.blocks[q.Get("blockid")] = b
	case q.Get("comp") == "blocklist":
		var list struct{ Latest []string }
		if err := xml.Unmarshal(b, &list); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, id := range list.Latest {
			k.b = append(k.b, k.blocks[id]...)
		}
	case r.Header.Get("x-ms-blob-type") == "BlockBlob":
		k.b = b
	default:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func (s *Service) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	k := s.entry(w, r)
	s.mu.Unlock()
	if k != nil {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(k.b))
	}
}

// Abandon reserves a key, as somebody does who dies before anything is there.
func (s *Service) Abandon(scope, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, &kept{scope: scope, key: key})
}

// Expire makes all addresses useless that were given out.
func (s *Service) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expired = s.asked
}

// Trouble makes the storage answer 503, so many times.
func (s *Service) Trouble(times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = times
}

// Damage flips a bit in the middle of the entries that which picks.
func (s *Service) Damage(which func(key string, content []byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.entries {
		if which(k.key, k.b) {
			k.b[len(k.b)/2] ^= 1
		}
	}
}
