package doctor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"

	"github.com/lighter-oci/lighter/internal/report"
)

// helperTime bounds one helper's list. A locked keychain may wait for somebody
// to unlock it, who is not there in CI.
const helperTime = 5 * time.Second

const helperPrefix = "docker-credential-"

// Credentials lists what registries there are credentials for, where package
// registry looks for them and in its order: the first place wins. Helpers are
// asked for their lists, which have accounts and no secrets, and never for a
// credential: some would fetch one over the network. A nil getenv is os.Getenv.
func Credentials(ctx context.Context, getenv func(string) string) []report.CredentialCheck {
	if getenv == nil {
		getenv = os.Getenv
	}
	l := &lister{ctx: ctx, found: []report.CredentialCheck{}}
	for _, p := range places(getenv) {
		data := []byte(p.content)
		if p.content == "" {
			var err error
			data, err = os.ReadFile(p.name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				l.broken(p.name, err.Error(), "make the file readable")
				continue
			}
		}
		file, err := config.LoadFromReader(bytes.NewReader(data))
		if err != nil { // its text may quote a value
			l.broken(p.name, "it is no Docker configuration", "repair it, or move it away and run `docker login` again")
			continue
		}
		l.add(p.name, file)
	}
	slices.SortStableFunc(l.found, func(a, b report.CredentialCheck) int { return cmp.Compare(a.Registry, b.Registry) })
	return l.found
}

// place is a file, or content that stands in the environment.
type place struct{ name, content string }

// places are those of registry.Credentials.
func places(getenv func(string) string) []place {
	home := cmp.Or(getenv("HOME"), homeDir())
	var all []place
	add := func(dir, below, name string) {
		if dir != "" {
			all = append(all, place{name: filepath.Join(dir, below, name)})
		}
	}
	if content := getenv("DOCKER_AUTH_CONFIG"); content != "" {
		all = append(all, place{"$DOCKER_AUTH_CONFIG", content})
	}
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		add(dir, "", config.ConfigFileName)
	} else {
		add(home, ".docker", config.ConfigFileName)
	}
	if file := getenv("REGISTRY_AUTH_FILE"); file != "" {
		return append(all, place{name: file})
	}
	add(getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		add(dir, "containers", "auth.json")
	} else {
		add(home, ".config/containers", "auth.json")
	}
	return all
}

func homeDir() string {
	home, _ := os.UserHomeDir() // "" then, and nothing is found there
	return home
}

type lister struct {
	ctx   context.Context
	found []report.CredentialCheck
}

func (l *lister) broken(source, problem, fix string) {
	l.found = append(l.found, report.CredentialCheck{Source: source, Problem: problem, Fix: fix})
}

// add takes what one configuration has: helpers of single registries, the
// store of all, its own entries.
func (l *lister) add(name string, file *configfile.ConfigFile) {
	lists := map[string]map[string]string{}
	ask := func(helper string) map[string]string {
		if list, ok := lists[helper]; ok {
			return list
		}
		list, err := listHelper(l.ctx, helper)
		if err != nil {
			l.broken(name, err.Error(), "install or repair the helper, or take it out of the file")
		}
		lists[helper] = list
		return list
	}
	for key, helper := range file.CredentialHelpers {
		account := ""
		for url, user := range ask(helper) {
			if registryName(url) == registryName(key) {
				account = user
			}
		}
		l.entry(key, account, fmt.Sprintf("%s%s (%s)", helperPrefix, helper, name))
	}
	if store := file.CredentialsStore; store != "" {
		for url, user := range ask(store) {
			l.entry(url, user, fmt.Sprintf("%s%s (%s)", helperPrefix, store, name))
		}
	}
	for key, auth := range file.AuthConfigs {
		if auth.Password != "" || auth.IdentityToken != "" || auth.RegistryToken != "" {
			l.entry(key, auth.Username, name)
		}
	}
}

// entry adds a registry unless it is there already.
func (l *lister) entry(key, account, source string) {
	name := registryName(key)
	if name == "" || slices.ContainsFunc(l.found, func(c report.CredentialCheck) bool { return c.Registry == name }) {
		return
	}
	if account == "<token>" { // the helpers' protocol for identity tokens
		account = ""
	}
	l.found = append(l.found, report.CredentialCheck{Registry: name, Account: account, Source: source})
}

// registryName is HOST or HOST/PATH of a key in a configuration, "" for what
// Docker Desktop keeps beside them.
func registryName(key string) string {
	if strings.HasSuffix(key, "/access-token") || strings.HasSuffix(key, "/refresh-token") {
		return ""
	}
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	key = strings.TrimSuffix(strings.TrimSuffix(key, "/v1"), "/v2")
	if key == "index.docker.io" || key == "registry-1.docker.io" {
		return "docker.io"
	}
	return key
}

// listHelper runs docker-credential-NAME list, which answers accounts by URL.
func listHelper(ctx context.Context, name string) (map[string]string, error) {
	program := helperPrefix + name
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "list")
	cmd.WaitDelay = time.Second // some start daemons that keep their output open
	out, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("the credential helper %s is not installed", program)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the credential helper %s does not list what it has within %v", program, helperTime)
	case err != nil:
		return nil, fmt.Errorf("the credential helper %s does not list what it has: %w", program, err)
	}
	var list map[string]string
	if json.Unmarshal(out, &list) != nil {
		return nil, fmt.Errorf("the credential helper %s lists no accounts by registry", program)
	}
	return list, nil
}
