package buildkit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	tokens "github.com/containerd/containerd/v2/core/remotes/docker/auth"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/auth/authprovider"
	"google.golang.org/grpc"
)

// logins answers an engine that has to log in at a registry. Tokens are fetched
// here, so that a password goes from this process to the registry's token server
// and not through an engine, by the way that Options.Transport knows.
//
// BuildKit's own provider, which answers all else, has such a setting too, but
// makes it in a client that all hosts share from then on.
type logins struct {
	auth.AuthServer
	opt Options
}

func newLogins(opt Options) session.Attachable {
	l := &logins{opt: opt}
	own := authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: func(ctx context.Context, host string, scopes []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
			cred, err := l.credential(ctx, host, scopes)
			return types.AuthConfig{ServerAddress: host, Username: cred.Username, Password: cred.Password, IdentityToken: cred.IdentityToken}, err
		},
	}).(auth.AuthServer)
	if opt.Transport == nil {
		return own.(session.Attachable)
	}
	l.AuthServer = own
	return l
}

// Register implements session.Attachable.
func (l *logins) Register(server *grpc.Server) { auth.RegisterAuthServer(server, l) }

// imageHost is a host as names of images have it.
func imageHost(host string) string {
	if host == authprovider.DockerHubRegistryHost {
		return "docker.io"
	}
	return host
}

func (l *logins) credential(ctx context.Context, host string, scopes []string) (Credential, error) {
	if l.opt.Credentials == nil {
		return Credential{}, nil
	}
	return l.opt.Credentials(ctx, imageHost(host)+repository(scopes))
}

// FetchToken implements auth.AuthServer.
func (l *logins) FetchToken(ctx context.Context, req *auth.FetchTokenRequest) (*auth.FetchTokenResponse, error) {
	cred, err := l.credential(ctx, req.Host, req.Scopes)
	if err != nil {
		return nil, err
	}
	transport, err := l.opt.Transport(imageHost(req.Host))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: transport}
	want := tokens.TokenOptions{Realm: req.Realm, Service: req.Service, Scopes: req.Scopes, Username: cred.Username, Secret: cred.Password}
	if cred.IdentityToken != "" {
		want.Username, want.Secret = "", cred.IdentityToken
	}
	if want.Secret != "" {
		got, err := tokens.FetchTokenWithOAuth(ctx, client, nil, "lighter", want)
		if err == nil {
			return tokenResponse(got.AccessToken, got.ExpiresInSeconds, got.IssuedAt.Unix()), nil
		} else if !knowsNoOAuth(err, want.Username) {
			return nil, fmt.Errorf("fetch a token: %w", err)
		}
	}
	got, err := tokens.FetchToken(ctx, client, nil, want)
	if err != nil {
		return nil, fmt.Errorf("fetch a token: %w", err)
	}
	return tokenResponse(got.Token, got.ExpiresInSeconds, got.IssuedAt.Unix()), nil
}

// knowsNoOAuth tells the answers of token servers that take a GET only: 405 as
// specified, 404 from Google's, 401 from Artifactory.
func knowsNoOAuth(err error, account string) bool {
	var status remoteserrors.ErrUnexpectedStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.StatusCode
	return code == http.StatusMethodNotAllowed && account != "" || code == http.StatusNotFound || code == http.StatusUnauthorized
}

// tokenResponse answers a token with the seconds that it is valid, 60 where the
// server does not say, from a time that may be long before 1970 for no time.
func tokenResponse(token string, seconds int, issued int64) *auth.FetchTokenResponse {
	if seconds == 0 {
		seconds = 60 // the distribution specification's default
	}
	return &auth.FetchTokenResponse{Token: token, ExpiresIn: int64(seconds), IssuedAt: max(issued, 0)}
}

// repository is "/org/app" for the scope "repository:org/app:pull", because a
// login may be for a part of a registry only; "" where no scope names one.
func repository(scopes []string) string {
	for _, s := range scopes {
		if rest, ok := strings.CutPrefix(s, "repository:"); ok {
			if i := strings.LastIndexByte(rest, ':'); i > 0 {
				return "/" + rest[:i]
			}
		}
	}
	return ""
}
