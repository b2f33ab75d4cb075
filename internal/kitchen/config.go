package kitchen

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/lighter-oci/lighter/internal/history"
	"github.com/lighter-oci/lighter/internal/project"
)

// Config is the file that --config names. Every key is optional; none of its
// values is ever shown.
type Config struct {
	// TokenHash is "sha256:HEX" of the token that programs send as Authorization:
	// Bearer, and people into the page at /login.
	TokenHash string `toml:"token-hash"`
	// User and PasswordHash (bcrypt) are for people.
	User         string `toml:"user"`
	PasswordHash string `toml:"password-hash"`
	// Cert and Key are files for TLS, from the directory of the config.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Hosts are further names under which browsers reach the server.
	Hosts []string `toml:"hosts"`
	// History is what is kept; nil leaves that as it is.
	History *HistoryConfig `toml:"history"`

	Projects map[string]ProjectConfig `toml:"projects"`
	Webhooks []Webhook                `toml:"webhooks"`

	file   string
	places map[string]string // of its keys, as project.Places has them
}

// ConfigError is a value that a kitchen cannot work with, or one that is missing.
type ConfigError struct {
	Place string // FILE:LINE:COLUMN, of the table where a key is missing
	Key   string
	Err   error
	next  string
}

func (e *ConfigError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s: %v", e.Place, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Place, e.Key, e.Err)
}

func (e *ConfigError) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *ConfigError) Hint() string { return e.next }

// wrong is an error of a key, at the first of these keys that the file has.
func (c *Config) wrong(key string, err error, next string, or ...string) error {
	place := c.file
	for _, k := range append([]string{key}, or...) {
		if at := c.places[k]; at != "" {
			place += ":" + at
			break
		}
	}
	return &ConfigError{place, key, err, next}
}

// ProjectConfig is about one project, by the name of its page.
type ProjectConfig struct {
	Engine string `toml:"engine"` // an address as of --engine; "" is the server's
}

// Webhook is told of builds that ended.
type Webhook struct {
	URL string `toml:"url"`
	// SecretFile holds the key of the signature, from the directory of the config.
	SecretFile string   `toml:"secret-file"`
	States     []string `toml:"states"` // done, failed, killed, interrupted; none is all

	secret []byte
}

// LoadConfig reads a file; errors name file and line.
func LoadConfig(path string) (Config, error) {
	var c Config
	data, err := os.ReadFile(path)
	if err != nil {
		return c, &ConfigError{path, "", unPath(err), "name with --config a file that this user may read"}
	}
	err = toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&c)
	var strict *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, column := strict.Errors[0].Position()
		return c, &ConfigError{fmt.Sprintf("%s:%d:%d", path, line, column), strings.Join(strict.Errors[0].Key(), "."),
			errors.New("it is no key of a kitchen's configuration"), "docs/kitchen.md has them all"}
	case errors.As(err, &wrong):
		line, column := wrong.Position()
		return c, &ConfigError{fmt.Sprintf("%s:%d:%d", path, line, column), strings.Join(wrong.Key(), "."),
			errors.New(strings.TrimPrefix(wrong.Error(), "toml: ")), "docs/kitchen.md has an example"}
	case err != nil:
		return c, &ConfigError{path, "", err, "docs/kitchen.md has an example"}
	}
	c.file, c.places = path, project.Places(data)
	return c, c.check(filepath.Dir(path))
}

const hashHint = "`lighter kitchen --hash` makes one"

func (c *Config) check(dir string) error {
	if c.TokenHash != "" {
		if sum, err := hex.DecodeString(strings.TrimPrefix(c.TokenHash, "sha256:")); err != nil || len(sum) != sha256.Size || !strings.HasPrefix(c.TokenHash, "sha256:") {
			return c.wrong("token-hash", errors.New("it is no sha256:HEX"), hashHint+" of a token")
		}
	}
	if c.PasswordHash != "" {
		if _, err := bcrypt.Cost([]byte(c.PasswordHash)); err != nil {
			return c.wrong("password-hash", errors.New("it is none of bcrypt"), hashHint+" of a password")
		}
	}
	if err := c.together("user", c.User, "password-hash", c.PasswordHash, hashHint+" of a password"); err != nil {
		return err
	}
	if err := c.together("cert", c.Cert, "key", c.Key, "name the file of the other"); err != nil {
		return err
	}
	c.Cert, c.Key = from(dir, c.Cert), from(dir, c.Key)
	if c.Cert != "" {
		if err := c.pair(); err != nil {
			return err
		}
	}
	for i := range c.Webhooks {
		if err := c.webhook(i, dir); err != nil {
			return err
		}
	}
	return nil
}

// unPath takes a file's name out of an error that is said with it.
func unPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// together wants both of two keys or none.
func (c *Config) together(one, value, other, otherValue, next string) error {
	if (value == "") == (otherValue == "") {
		return nil
	}
	if value == "" {
		one, other = other, one
	}
	return c.wrong(one, fmt.Errorf("it goes together with %s, which is missing", other), next)
}

// pair looks whether cert and key are files with which TLS can be spoken.
func (c *Config) pair() error {
	for _, f := range []struct{ key, file string }{{"cert", c.Cert}, {"key", c.Key}} {
		if _, err := os.ReadFile(f.file); err != nil {
			return c.wrong(f.key, err, "name a PEM file that this user may read, from the directory of the configuration")
		}
	}
	if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
		return c.wrong("cert", err, "name the PEM files of a certificate and of its own key")
	}
	return nil
}

func (c *Config) webhook(i int, dir string) error {
	w, name := &c.Webhooks[i], fmt.Sprintf("webhooks[%d]", i)
	wrong := func(key string, err error, next string) error { return c.wrong(name+"."+key, err, next, name) }
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return wrong("url", errors.New("it is no URL of http or https"), "say where the builds that ended are sent to")
	}
	for j, s := range w.States {
		if !slices.Contains(states, s) || !history.State(s).Over() {
			return wrong(fmt.Sprintf("states[%d]", j), fmt.Errorf("%q is no state in which a build ends", s), "choose from done, failed, killed and interrupted")
		}
	}
	if w.SecretFile == "" {
		return wrong("secret-file", errors.New("it is missing"), "name a file: what is sent is signed with what it holds")
	}
	data, err := os.ReadFile(from(dir, w.SecretFile))
	if err != nil {
		return wrong("secret-file", err, "name a file that this user may read, from the directory of the configuration")
	}
	if w.secret = bytes.TrimSpace(data); len(w.secret) < 16 {
		return wrong("secret-file", fmt.Errorf("%s holds fewer than 16 characters", w.SecretFile), "`openssl rand -hex 32` prints enough")
	}
	return nil
}

func from(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// Protected tells whether there is anything to log in with.
func (c *Config) Protected() bool { return c.TokenHash != "" || c.User != "" }

// Hashes answers the lines of a config for a password or token.
func Hashes(secret string) (string, error) {
	sum := sha256.Sum256([]byte(secret))
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.DefaultCost)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("password-hash = %q\ntoken-hash = \"sha256:%x\"\n", hash, sum), nil
}
