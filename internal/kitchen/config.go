package kitchen

import (
	"bytes"
	"crypto/sha256"
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

	Projects map[string]ProjectConfig `toml:"projects"`
	Webhooks []Webhook                `toml:"webhooks"`
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
		return c, err
	}
	err = toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&c)
	var strict *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, column := strict.Errors[0].Position()
		return c, fmt.Errorf("%s:%d:%d: %s is no key of a kitchen's configuration", path, line, column, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &wrong):
		line, column := wrong.Position()
		return c, fmt.Errorf("%s:%d:%d: %s", path, line, column, strings.TrimPrefix(wrong.Error(), "toml: "))
	case err != nil:
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.check(filepath.Dir(path)); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c *Config) check(dir string) error {
	if c.TokenHash != "" {
		if sum, err := hex.DecodeString(strings.TrimPrefix(c.TokenHash, "sha256:")); err != nil || len(sum) != sha256.Size || !strings.HasPrefix(c.TokenHash, "sha256:") {
			return errors.New("token-hash is no sha256:HEX: `lighter kitchen --hash` makes one of a token")
		}
	}
	if (c.User == "") != (c.PasswordHash == "") {
		return errors.New("user and password-hash go together")
	}
	if c.PasswordHash != "" {
		if _, err := bcrypt.Cost([]byte(c.PasswordHash)); err != nil {
			return errors.New("password-hash is none of bcrypt: `lighter kitchen --hash` makes one of a password")
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return errors.New("cert and key go together")
	}
	c.Cert, c.Key = from(dir, c.Cert), from(dir, c.Key)
	for i := range c.Webhooks {
		if err := c.Webhooks[i].check(dir); err != nil {
			return fmt.Errorf("webhooks[%d]: %w", i, err)
		}
	}
	return nil
}

func (w *Webhook) check(dir string) error {
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("url is none of http or https")
	}
	for _, s := range w.States {
		if !slices.Contains(states, s) || !history.State(s).Over() {
			return fmt.Errorf("states: %q is none of done, failed, killed and interrupted", s)
		}
	}
	if w.SecretFile == "" {
		return errors.New("secret-file is missing: what is sent is signed with what it holds")
	}
	data, err := os.ReadFile(from(dir, w.SecretFile))
	if err != nil {
		return err
	}
	if w.secret = bytes.TrimSpace(data); len(w.secret) < 16 {
		return fmt.Errorf("secret-file %s holds fewer than 16 characters", w.SecretFile)
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
