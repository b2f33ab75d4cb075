package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/configfile"
)

// listTime bounds one helper's list. A locked keychain may wait for somebody
// to unlock it, who is not there in CI.
const listTime = 5 * time.Second

// List answers what registries there are credentials for, sorted by Host, which
// may be HOST/PATH: those that Lookup would find. Helpers are asked for their
// lists, which have accounts and no secrets, and never for a credential: some
// would fetch one over the network. So nothing in here can be revealed.
func (c Credentials) List(ctx context.Context) ([]Credential, []*CredentialError) {
	l := &lister{ctx: ctx}
	for _, p := range c.places() {
		data, err := p.read()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			l.broken(p.name, pathless(err), "make the file readable")
			continue
		}
		file, err := parseConfig(p.name, data)
		var wrong *CredentialError
		if errors.As(err, &wrong) {
			l.wrong = append(l.wrong, wrong)
			continue
		}
		l.add(p.name, file)
	}
	slices.SortStableFunc(l.found, func(a, b Credential) int { return cmp.Compare(a.Host, b.Host) })
	return l.found, l.wrong
}

type lister struct {
	ctx   context.Context
	found []Credential
	wrong []*CredentialError
}

func (l *lister) broken(source string, err error, next string) {
	l.wrong = append(l.wrong, &CredentialError{source, oneLine(err.Error()), next})
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
			l.broken(name, err, "install or repair the helper, or take it out of the file")
		}
		lists[helper] = list
		return list
	}
	for _, key := range slices.Sorted(maps.Keys(file.CredentialHelpers)) {
		helper, account := file.CredentialHelpers[key], ""
		for url, user := range ask(helper) {
			if registryName(url) == registryName(key) {
				account = user
			}
		}
		l.entry(key, account, helperSource(helper, name))
	}
	if store := file.CredentialsStore; store != "" {
		for url, user := range ask(store) {
			l.entry(url, user, helperSource(store, name))
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
	if name == "" || slices.ContainsFunc(l.found, func(c Credential) bool { return c.Host == name }) {
		return
	}
	if account == tokenAccount {
		account = ""
	}
	l.found = append(l.found, Credential{Host: name, Account: account, Source: source})
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
	if slices.Contains(hubKeys, key) {
		return hub
	}
	return key
}

// listHelper runs docker-credential-NAME list, which answers accounts by URL.
func listHelper(ctx context.Context, name string) (map[string]string, error) {
	program := helperPrefix + name
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "list")
	cmd.WaitDelay = helperPatience
	out, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("the credential helper %s is not installed", program)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the credential helper %s does not list what it has within %v", program, listTime)
	case err != nil:
		return nil, fmt.Errorf("the credential helper %s does not list what it has: %w", program, err)
	}
	var list map[string]string
	if json.Unmarshal(out, &list) != nil {
		return nil, fmt.Errorf("the credential helper %s lists no accounts by registry", program)
	}
	return list, nil
}
