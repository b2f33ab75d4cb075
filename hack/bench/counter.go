package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
)

// counter stands before a registry and counts the bytes of blobs that it is
// given, whoever sends them.
type counter struct {
	*httptest.Server
	addr  string
	bytes atomic.Int64
}

func countBytes(addr string) (*counter, error) {
	to, err := url.Parse("http://" + addr)
	if err != nil {
		return nil, err
	}
	c := &counter{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // which uploads go on at
	}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			r.Body = &counted{r.Body, &c.bytes}
		}
		proxy.ServeHTTP(w, r)
	}))
	c.addr = strings.TrimPrefix(c.URL, "http://")
	return c, nil
}

type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}
