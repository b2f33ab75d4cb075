package kitchen

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// What a request may be; the numbers are bounds against abuse, far above what
// pages and the API need.
const (
	maxHeader = 32 << 10
	maxBody   = 64 << 10
	maxURL    = 4 << 10
)

// policy lets a page load what this server has and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard stands before every handler: whom a request is for, from where it comes,
// how large it is, and what a browser may do with the answer.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		// Not no-referrer, with which browsers send Origin: null with a form.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if s.tls() {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if err := s.connections.over(r); err != nil {
			h.Set("Connection", "close")
			s.fail(w, r, err)
			return
		}
		switch {
		case !s.hosts.has(r.Host):
			s.refuse(w, r, http.StatusMisdirectedRequest, "this server is not "+r.Host, "name it in hosts of the configuration, where it should be")
			return
		case len(r.RequestURI) > maxURL:
			s.refuse(w, r, http.StatusRequestURITooLong, "the address is too long", "go there from the overview")
			return
		case strings.ContainsAny(r.URL.Path, "\\\x00") || strings.Contains(r.URL.Path, "//") || slices.Contains(strings.Split(r.URL.Path, "/"), ".."):
			s.refuse(w, r, http.StatusBadRequest, "that is no address of this server", "go there from the overview")
			return
		case foreign(r, s.origins):
			s.refuse(w, r, http.StatusForbidden, "the request comes from another site", "open this server's own page, and try there")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// foreign tells a request that a page of another site has made. A browser says
// so: with Sec-Fetch-Site, and with Origin on all that can change something.
// Other sites may link here; they may neither send, nor read programs' answers.
func foreign(r *http.Request, origins []string) bool {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	site := r.Header.Get("Sec-Fetch-Site")
	if origin := r.Header.Get("Origin"); origin != "" && !slices.Contains(origins, origin) {
		return true
	}
	switch site {
	case "", "same-origin", "none":
		return false
	}
	// A link or a typed address is a navigation at the top, to be looked at.
	return !safe || r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
}

// hostList is under which names this server is reached.
type hostList struct {
	exact map[string]bool // "host:port", "host"
}

// has takes a Host header. A rebound name (DNS rebinding) is none of the list:
// the address that it resolves to does not matter.
func (l hostList) has(host string) bool { return l.exact[strings.ToLower(host)] }

// names lists where a server that listens at addr is reached: at its address, and on
// loopback as localhost; further hosts with that port, without one, and the proxy.
func names(addr, scheme string, more []string, proxy *url.URL) (hostList, []string) {
	l := hostList{exact: map[string]bool{}}
	var origins []string
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	take := func(scheme, h string) {
		h = strings.ToLower(h)
		l.exact[h] = true
		origins = append(origins, scheme+"://"+h)
	}
	add := func(h string) {
		take(scheme, net.JoinHostPort(h, port))
		if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
			take(scheme, bracketed(h))
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		add(host)
	}
	if loopback(host) || unspecified(host) {
		for _, h := range []string{"localhost", "127.0.0.1", "::1"} {
			add(h)
		}
	} else if _, err := netip.ParseAddr(host); err != nil {
		add(host)
	}
	for _, h := range more {
		if strings.Contains(h, ":") && !strings.HasSuffix(h, "]") {
			take(scheme, h)
		} else {
			add(h)
		}
	}
	if proxy != nil {
		take(proxy.Scheme, proxy.Host)
	}
	return l, origins
}

func bracketed(h string) string {
	if strings.Contains(h, ":") {
		return "[" + h + "]"
	}
	return h
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func unspecified(host string) bool {
	if host == "" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

// forwarded is whom a proxy asks for: the last one of the header is what it has added.
func forwarded(r *http.Request) string {
	all := r.Header.Values("X-Forwarded-For")
	if len(all) == 0 {
		return ""
	}
	list := strings.Split(all[len(all)-1], ",")
	return strings.TrimSpace(list[len(list)-1])
}
