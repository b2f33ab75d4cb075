package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
)

// Credentials finds credentials where other tools keep them. The first place
// that has one for a registry wins:
//
//	$DOCKER_AUTH_CONFIG                      the JSON itself, as in GitLab's CI
//	$DOCKER_CONFIG/config.json               or ~/.docker/config.json
//	$REGISTRY_AUTH_FILE                      or else
//	$XDG_RUNTIME_DIR/containers/auth.json    or else
//	$XDG_CONFIG_HOME/containers/auth.json    or ~/.config/containers/auth.json
//
// Each is a Docker configuration file with auths, credHelpers and credsStore.
// Keys are hosts, or in podman's way host and leading path; for Docker Hub also
// https://index.docker.io/v1/. The zero value reads the process's environment.
type Credentials struct {
	Getenv func(string) string // nil is os.Getenv
}

// CredentialError says that a configuration or a helper in it does not work.
// It wraps nothing: the end of a file is no matter of a connection.
type CredentialError struct {
	Source string // "/home/ann/.docker/config.json:3"
	Reason string // one line
	Next   string
}

func (e *CredentialError) Error() string {
	return "registry credentials: " + e.Source + ": " + e.Reason
}

// Hint is the user's next step.
func (e *CredentialError) Hint() string { return e.Next }

// hub is Docker Hub in names of images.
const hub = "docker.io"

// hubKeys are the names of Docker Hub in configuration files, Docker's first.
var hubKeys = []string{"https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"}

// place is one configuration, by the name that messages give it.
type place struct {
	name string
	read func() ([]byte, error) // wraps fs.ErrNotExist where there is none
}

// Lookup finds the credential for "HOST" or "HOST/REPOSITORY"; none is no
// error. Errors are a *CredentialError or the context's.
func (c Credentials) Lookup(ctx context.Context, name string) (Credential, error) {
	host, path, _ := strings.Cut(name, "/")
	if slices.Contains(hubKeys, host) {
		host = hub
	}
	for _, p := range c.places() {
		data, err := p.read()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return Credential{}, &CredentialError{p.name, oneLine(pathless(err).Error()), "make the file readable"}
		}
		file, err := parseConfig(p.name, data)
		if err != nil {
			return Credential{}, err
		}
		auth, source, err := find(ctx, file, p.name, host, path)
		if err != nil {
			return Credential{}, err
		}
		if cred := newCredential(host, source, auth); cred.Found() {
			return cred, nil
		}
	}
	return Credential{Host: host}, nil
}

func newCredential(host, source string, auth types.AuthConfig) Credential {
	c := Credential{Host: host}
	if auth.Password == "" && auth.IdentityToken == "" && auth.RegistryToken == "" {
		return c
	}
	c.Source, c.Account = source, auth.Username
	s := secret{auth.Password, auth.IdentityToken, auth.RegistryToken}
	c.reveal = func() secret { return s }
	return c
}

// places lists where to look, in order.
func (c Credentials) places() []place {
	getenv := c.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	var all []place
	file := func(dir, name string) {
		if dir != "" {
			path := filepath.Join(dir, name)
			all = append(all, place{path, func() ([]byte, error) { return os.ReadFile(path) }})
		}
	}
	if value := getenv("DOCKER_AUTH_CONFIG"); value != "" {
		all = append(all, place{"$DOCKER_AUTH_CONFIG", func() ([]byte, error) { return []byte(value), nil }})
	}
	file(inHome(getenv, "DOCKER_CONFIG", ".docker"), config.ConfigFileName)
	if path := getenv("REGISTRY_AUTH_FILE"); path != "" {
		file(filepath.Dir(path), filepath.Base(path))
		return all
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		file(dir, "containers/auth.json")
	}
	file(inHome(getenv, "XDG_CONFIG_HOME", ".config"), "containers/auth.json")
	return all
}

// inHome is the directory that a variable names, else the one under the user's
// home; "" where there is no home. A nil getenv is os.Getenv.
func inHome(getenv func(string) string, variable, underHome string) string {
	if getenv == nil {
		getenv = os.Getenv
	}
	if dir := getenv(variable); dir != "" {
		return dir
	}
	home := getenv("HOME")
	if home == "" {
		home, _ = os.UserHomeDir()
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, underHome)
}

// pathless is an error without the file's name, which is in front already.
func pathless(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// parseConfig reads a configuration; errors are FILE:LINE: what is wrong.
func parseConfig(name string, data []byte) (*configfile.ConfigFile, error) {
	file, err := config.LoadFromReader(bytes.NewReader(data))
	if err == nil {
		return file, nil
	}
	offset := int64(-1)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		// Its text may quote the value.
		offset, err = kind.Offset, fmt.Errorf("field %q is of the wrong type", kind.Field)
	}
	if offset >= 0 {
		name = fmt.Sprintf("%s:%d", name, 1+bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n")))
	}
	return nil, &CredentialError{name, oneLine(err.Error()), "repair it, or move it away and run `docker login` again"}
}

// find looks for host/path in one configuration, in the order of docker: the
// helper of the host, the store of all, the file itself.
func find(ctx context.Context, file *configfile.ConfigFile, name, host, path string) (types.AuthConfig, string, error) {
	keys := []string{host}
	if host == hub {
		keys = hubKeys
	}
	helper := file.CredentialsStore
	for _, key := range keys {
		if h := file.CredentialHelpers[key]; h != "" {
			helper, keys = h, []string{key}
			break
		}
	}
	if helper != "" {
		// Asking for Docker Hub in one way is enough: docker login stores it so.
		auth, err := askHelper(ctx, helper, keys[0])
		if ctx.Err() != nil {
			return auth, "", ctx.Err()
		}
		if err != nil {
			return auth, "", &CredentialError{name, oneLine(err.Error()), "install or repair the helper, or take it out of the file"}
		}
		if auth != (types.AuthConfig{}) {
			return auth, helperSource(helper, name), nil
		}
	}
	return inFile(file, host, path), name, nil
}

// inFile finds the entry with the longest path, as containers-auth.json(5)
// describes it, and entries that are written as URLs.
func inFile(file *configfile.ConfigFile, host, path string) types.AuthConfig {
	hosts := []string{host, "https://" + host, "https://" + host + "/", "https://" + host + "/v1/", "https://" + host + "/v2/", "http://" + host}
	if host == hub {
		hosts = hubKeys
	}
	for ; path != ""; path = path[:max(0, strings.LastIndexByte(path, '/'))] {
		for _, key := range hosts {
			if auth, ok := file.AuthConfigs[key+"/"+path]; ok && !strings.Contains(key, "://") {
				return auth
			}
		}
	}
	for _, key := range hosts {
		if auth, ok := file.AuthConfigs[key]; ok {
			return auth
		}
	}
	return types.AuthConfig{}
}
