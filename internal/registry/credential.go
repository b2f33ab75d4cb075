package registry

import (
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Credential is what is known about an account at one registry. Printing,
// logging or marshalling it, in any verb and however deep inside something
// else, shows host, account and source and never a value.
type Credential struct {
	Host    string // "docker.io", "localhost:5000"
	Account string // "" with an identity token, and where there is no credential
	Source  string // "/home/ann/.docker/config.json", "docker-credential-pass (/home/ann/.docker/config.json)"

	// reveal answers the values; nil where there are none. fmt does not call the
	// methods of unexported fields and follows pointers for a verb it does not
	// know, but it never looks into a function.
	reveal func() secret
}

type secret struct{ password, identityToken, registryToken string }

// Found tells whether there is a credential; the zero value is none.
func (c Credential) Found() bool { return c.reveal != nil }

// Reveal answers the values, for whoever speaks to the registry. The token is
// an OAuth2 refresh token, used instead of account and password.
func (c Credential) Reveal() (account, password, identityToken string) {
	if c.reveal == nil {
		return "", "", ""
	}
	s := c.reveal()
	return c.Account, s.password, s.identityToken
}

// String is "account ann from FILE", "identity token from FILE" or "no
// credential".
func (c Credential) String() string {
	switch {
	case !c.Found():
		return "no credential"
	case c.Account == "":
		return "identity token from " + c.Source
	}
	return "account " + c.Account + " from " + c.Source
}

// Format implements fmt.Formatter, so that every verb prints String.
func (c Credential) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(c.String())) }

// LogValue implements slog.LogValuer.
func (c Credential) LogValue() slog.Value {
	return slog.GroupValue(slog.String("host", c.Host), slog.String("account", c.Account), slog.String("source", c.Source))
}

// MarshalJSON implements json.Marshaler.
func (c Credential) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Host    string `json:"host"`
		Account string `json:"account,omitempty"`
		Source  string `json:"source,omitempty"`
	}{c.Host, c.Account, c.Source})
}

// authenticator is the credential as go-containerregistry takes it.
func (c Credential) authenticator() authn.Authenticator {
	if c.reveal == nil {
		return authn.Anonymous
	}
	s := c.reveal()
	return authn.FromConfig(authn.AuthConfig{
		Username: c.Account, Password: s.password, IdentityToken: s.identityToken, RegistryToken: s.registryToken,
	})
}
