package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/util/resolver/config"
	"github.com/pelletier/go-toml/v2"
)

// Hosts finds what the user has configured about registries, in the file that
// BuildKit reads it from. The first that exists is the one:
//
//	$XDG_CONFIG_HOME/buildkit/buildkitd.toml    or ~/.config/buildkit/buildkitd.toml
//	/etc/buildkit/buildkitd.toml
//
// Of it, the sections [registry."HOST"] count, with BuildKit's keys: mirrors,
// http, insecure, ca, keypair, tlsconfigdir. The others are a buildkitd's. The
// zero value reads the process's environment.
type Hosts struct {
	Getenv func(string) string // nil is os.Getenv
}

// HostConfig is one registry's section.
type HostConfig = config.RegistryConfig

type keyPair = config.TLSKeyPair

// HostConfigs is what was read.
type HostConfigs struct {
	File  string                // that was read; where there is none, that would be
	Hosts map[string]HostConfig // by "host" or "host:port"; nil where there is no file
}

// HostError says that the configuration of registries does not work.
type HostError struct {
	Source string // "/etc/buildkit/buildkitd.toml:3"
	Reason string // one line
	Next   string
}

func (e *HostError) Error() string { return "registry configuration: " + e.Source + ": " + e.Reason }

// Hint is the user's next step.
func (e *HostError) Hint() string { return e.Next }

// Read reads the configuration; that there is none is no error. Errors are a
// *HostError.
func (h Hosts) Read() (HostConfigs, error) {
	files := h.files()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return HostConfigs{}, &HostError{file, oneLine(pathless(err).Error()), "make the file readable"}
		}
		hosts, err := parseHosts(file, data)
		return HostConfigs{file, hosts}, err
	}
	return HostConfigs{File: files[0]}, nil
}

func (h Hosts) files() []string {
	const name = "buildkit/buildkitd.toml"
	files := []string{filepath.Join("/etc", name)}
	if dir := inHome(h.Getenv, "XDG_CONFIG_HOME", ".config"); dir != "" {
		files = append([]string{filepath.Join(dir, name)}, files...)
	}
	return files
}

// parseHosts reads the sections. Errors are FILE:LINE: what is wrong; a key that
// nobody here knows is one, because it may be what keeps somebody out.
func parseHosts(file string, data []byte) (map[string]HostConfig, error) {
	var doc struct {
		Registry map[string]HostConfig `toml:"registry"`
	}
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&doc)
	var (
		unknown *toml.StrictMissingError
		wrong   *toml.DecodeError
	)
	switch {
	case errors.As(err, &unknown): // first: it has DecodeErrors in it
		for i := range unknown.Errors {
			if e := &unknown.Errors[i]; e.Key()[0] == "registry" {
				return nil, hostError(file, e, "unknown key "+e.Key()[len(e.Key())-1])
			}
		}
	case errors.As(err, &wrong):
		reason, _, _ := strings.Cut(strings.TrimPrefix(wrong.Error(), "toml: "), " into ") // Go's types
		return nil, hostError(file, wrong, reason)
	case err != nil:
		return nil, &HostError{file, oneLine(err.Error()), hostNext}
	}
	if doc.Registry == nil {
		doc.Registry = map[string]HostConfig{}
	}
	for host, c := range doc.Registry {
		if err := checkHost(host); err != nil {
			return nil, &HostError{lineOf(file, data, host), err.Error(), hostNext}
		}
		for _, mirror := range c.Mirrors {
			if at, _ := splitMirror(mirror); checkHost(at) != nil {
				return nil, &HostError{lineOf(file, data, mirror), fmt.Sprintf("mirror %.200q: want HOST[:PORT][/PATH]", mirror), hostNext}
			}
		}
		doc.Registry[host] = settled(c, filepath.Dir(file))
	}
	return doc.Registry, nil
}

// settled is c with its files named in full, from dir on, so that it means the
// same in every process. Who names an authority means TLS: without a word about
// HTTP, BuildKit would speak plain HTTP on loopback all the same.
func settled(c HostConfig, dir string) HostConfig {
	full := func(file string) string {
		if file == "" || filepath.IsAbs(file) {
			return file
		}
		return filepath.Join(dir, file)
	}
	for _, list := range [][]string{c.RootCAs, c.TLSConfigDir} {
		for i := range list {
			list[i] = full(list[i])
		}
	}
	for i := range c.KeyPairs {
		c.KeyPairs[i].Certificate, c.KeyPairs[i].Key = full(c.KeyPairs[i].Certificate), full(c.KeyPairs[i].Key)
	}
	if c.PlainHTTP == nil && len(c.RootCAs)+len(c.KeyPairs)+len(c.TLSConfigDir) > 0 {
		c.PlainHTTP = new(bool)
	}
	return c
}

const hostNext = "below [registry.\"HOST\"], mirrors and ca are lists of strings, http and insecure true or false"

func hostError(file string, at *toml.DecodeError, reason string) *HostError {
	line, _ := at.Position()
	return &HostError{fmt.Sprintf("%s:%d", file, line), oneLine(reason), hostNext}
}

// lineOf is FILE:LINE of the first line that has text in it.
func lineOf(file string, data []byte, text string) string {
	if before, _, ok := bytes.Cut(data, []byte(text)); ok {
		return fmt.Sprintf("%s:%d", file, 1+bytes.Count(before, []byte("\n")))
	}
	return file
}

// checkHost refuses what is no "host" or "host:port".
func checkHost(host string) error {
	if u, err := url.Parse("//" + host); err != nil || host == "" || u.Host != host || u.User != nil {
		return fmt.Errorf("registry %.200q: want HOST or HOST:PORT, without a scheme and a path", host)
	}
	return nil
}

// splitMirror reads HOST[:PORT][/PATH]. A scheme in front says nothing, as in
// BuildKit: the mirror's own section does.
func splitMirror(s string) (host, path string) {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	host, path, _ = strings.Cut(s, "/")
	return host, strings.Trim(path, "/")
}

// Describe is the section of a host in one clause, "" where there is none.
func (c HostConfigs) Describe(host string) string {
	h := c.Hosts[host]
	var parts []string
	list := func(name string, values []string) {
		if len(values) > 0 {
			parts = append(parts, name+" "+strings.Join(values, ", "))
		}
	}
	list("mirrors", h.Mirrors)
	flag := func(name string, value *bool) {
		if value != nil {
			parts = append(parts, fmt.Sprintf("%s = %t", name, *value))
		}
	}
	flag("http", h.PlainHTTP)
	flag("insecure", h.Insecure)
	list("ca", h.RootCAs)
	list("tlsconfigdir", h.TLSConfigDir)
	for _, pair := range h.KeyPairs {
		list("keypair", []string{pair.Certificate})
	}
	return strings.Join(parts, "; ")
}
