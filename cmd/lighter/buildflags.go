package main

import (
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/image"
)

// fillMaps reads the flags that are KEY=VALUE.
func (b *buildCmd) fillMaps(req *engine.Request) error {
	req.BuildArgs = map[string]string{}
	for _, a := range b.BuildArg {
		key, value, ok := strings.Cut(a, "=")
		if key == "" {
			return fmt.Errorf("--build-arg %q: want KEY=VALUE", a)
		}
		if !ok {
			if value, ok = os.LookupEnv(key); !ok {
				continue // as docker does: unset here stays unset there
			}
		}
		req.BuildArgs[key] = value
	}
	if epoch, ok := os.LookupEnv("SOURCE_DATE_EPOCH"); ok {
		if _, set := req.BuildArgs["SOURCE_DATE_EPOCH"]; !set {
			req.BuildArgs["SOURCE_DATE_EPOCH"] = epoch
		}
	}
	var err error
	if req.Labels, err = keyValues("--label", b.Label); err != nil {
		return err
	}
	if req.NamedContexts, err = keyValues("--build-context", b.BuildContext); err != nil {
		return err
	}
	if b.ShmSize != "" {
		if req.ShmSize, err = units.RAMInBytes(b.ShmSize); err != nil {
			return fmt.Errorf("--shm-size %q: want a size such as 64m", b.ShmSize)
		}
	}
	return nil
}

func keyValues(flag string, in []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range in {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%s %q: want NAME=VALUE", flag, s)
		}
		out[key] = value
	}
	return out, nil
}

// fields splits one CSV flag value, "type=registry,ref=…", into its parts.
func fields(flag, s string) (map[string]string, error) {
	parts, err := csvvalue.Fields(s, nil)
	if err != nil {
		// Not quoted: it may hold a token or an access key.
		return nil, fmt.Errorf("%s: %w: want KEY=VALUE, with commas between", flag, err)
	}
	out := map[string]string{}
	for _, p := range parts {
		key, value, ok := strings.Cut(p, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return nil, fmt.Errorf("%s: %.40q is no KEY=VALUE; a value with commas is quoted as in 'name=x,\"name=a,b\"'", flag, p)
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("%s: %s is there twice", flag, key)
		}
		out[key] = value
	}
	return out, nil
}

// fillMounts reads secrets and ssh.
func (b *buildCmd) fillMounts(req *engine.Request) error {
	for _, s := range b.Secret {
		f, err := fields("--secret", s)
		if err != nil {
			return err
		}
		secret := engine.Secret{ID: f["id"], File: firstOf(f, "src", "source"), Env: f["env"]}
		if f["type"] == "env" && secret.Env == "" {
			secret.Env, secret.File = secret.File, ""
		}
		if secret.ID == "" {
			return fmt.Errorf("--secret %q: want id=ID,src=FILE or id=ID,env=NAME", s)
		}
		if secret, err = findSecret(secret); err != nil {
			return err
		}
		req.Secrets = append(req.Secrets, secret)
	}
	for _, s := range b.SSH {
		id, paths, has := strings.Cut(s, "=")
		ssh := engine.SSH{ID: id}
		if has {
			ssh.Paths = strings.Split(paths, ",")
		}
		req.SSH = append(req.SSH, ssh)
	}
	return nil
}

// findSecret applies docker's defaults for a secret that names no source, and
// makes sure that it can be read.
func findSecret(s engine.Secret) (engine.Secret, error) {
	if s.File == "" && s.Env == "" {
		if _, ok := os.LookupEnv(s.ID); ok {
			s.Env = s.ID
		} else {
			s.File = s.ID
		}
	}
	if s.Env != "" {
		if _, ok := os.LookupEnv(s.Env); !ok {
			return s, fmt.Errorf("--secret id=%s: the environment has no %s", s.ID, s.Env)
		}
		return s, nil
	}
	if _, err := os.Stat(s.File); err != nil { // not opened: a pipe has its value only once
		return s, fmt.Errorf("--secret id=%s: %w", s.ID, err)
	}
	return s, nil
}

func firstOf(m map[string]string, keys ...string) string {
	for _, k := range keys {
		if m[k] != "" {
			return m[k]
		}
	}
	return ""
}

// fillAttests reads --attest, --provenance and --sbom. Without them an image
// has none: attestations carry times, and so would every digest.
func (b *buildCmd) fillAttests(req *engine.Request) error {
	req.Attests = map[string]string{}
	add := func(flag, s string) error {
		f, err := fields(flag, s)
		if err != nil {
			return err
		}
		kind := f["type"]
		if kind != "provenance" && kind != "sbom" {
			return fmt.Errorf("%s %q: want type=provenance or type=sbom", flag, s)
		}
		if _, off := f["disabled"]; off && f["disabled"] != "false" {
			delete(req.Attests, kind)
			return nil
		}
		delete(f, "type")
		delete(f, "disabled")
		var rest []string
		for _, key := range slices.Sorted(maps.Keys(f)) {
			rest = append(rest, key+"="+f[key])
		}
		req.Attests[kind], err = record(rest)
		return err
	}
	for _, s := range b.Attest {
		if err := add("--attest", s); err != nil {
			return err
		}
	}
	for _, short := range []struct{ kind, value string }{{"provenance", b.Provenance}, {"sbom", b.SBOM}} {
		if short.value == "" {
			continue
		}
		if err := add("--"+short.kind, canonicalAttest(short.kind, short.value)); err != nil {
			return err
		}
	}
	return nil
}

// record is one line of CSV.
func record(fields []string) (string, error) {
	var line strings.Builder
	w := csv.NewWriter(&line)
	if err := w.Write(fields); err != nil {
		return "", err
	}
	w.Flush()
	return strings.TrimSuffix(line.String(), "\n"), w.Error()
}

// csvLine is record without what is empty, of parts that have no reason to fail.
func csvLine(parts ...string) string {
	s, _ := record(slices.DeleteFunc(parts, func(p string) bool { return p == "" }))
	return s
}

func canonicalAttest(kind, s string) string {
	switch s {
	case "true", "1":
		return "type=" + kind
	case "false", "0":
		return "type=" + kind + ",disabled=true"
	}
	return "type=" + kind + "," + s
}

// fillCaches reads --cache-from and --cache-to; a bare reference is a registry.
func (b *buildCmd) fillCaches(req *engine.Request) error {
	var err error
	if req.CacheFrom, err = cacheEntries("--cache-from", b.CacheFrom, "registry", "local", "gha", "s3", "azblob"); err != nil {
		return err
	}
	req.CacheTo, err = cacheEntries("--cache-to", b.CacheTo, "registry", "inline", "local", "gha", "s3", "azblob")
	return err
}

func cacheEntries(flag string, in []string, types ...string) ([]engine.Entry, error) {
	var out []engine.Entry
	for _, s := range in {
		if !strings.Contains(s, "=") {
			if s == "inline" && slices.Contains(types, s) {
				s = "type=inline"
			} else {
				s = "type=registry,ref=" + s
			}
		}
		f, err := fields(flag, s)
		if err != nil {
			return nil, err
		}
		e := engine.Entry{Type: f["type"], Attrs: f}
		delete(f, "type")
		if !slices.Contains(types, e.Type) {
			// Not quoted whole: it may hold a token or an access key.
			return nil, fmt.Errorf("%s type=%q: want type=%s", flag, e.Type, strings.Join(types, "|"))
		}
		if err := cloudFromEnv(e); err != nil {
			return nil, fmt.Errorf("%s type=%s: %w", flag, e.Type, err)
		}
		if err := cacheRequires(flag, e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// cacheRequires names the attribute that a cache type cannot work without.
func cacheRequires(flag string, e engine.Entry) error {
	need := map[string]string{"registry": "ref", "s3": "bucket", "azblob": "account_url"}[e.Type]
	if e.Type == "gha" && (e.Attrs["token"] == "" || e.Attrs["url"]+e.Attrs["url_v2"] == "") {
		return fmt.Errorf("%s type=gha needs the cache service of GitHub Actions: the variables ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL are not set here", flag)
	}
	if e.Type == "local" {
		need = map[string]string{"--cache-from": "src", "--cache-to": "dest"}[flag]
	}
	if need != "" && e.Attrs[need] == "" {
		return fmt.Errorf("%s type=%s needs %s=…", flag, e.Type, need)
	}
	return nil
}

// checkCaches refuses a cache that would take the name of an image that this build
// pushes, or of another cache: whoever comes last would win.
func (b *buildCmd) checkCaches(req engine.Request) error {
	taken := map[string]string{}
	for _, o := range req.Outputs {
		if !isTrue(o.Attrs, "push") {
			continue
		}
		for n := range strings.SplitSeq(o.Attrs["name"], ",") {
			if ref, err := image.ParseReference(n); err == nil {
				taken[ref.String()] = "the image"
			}
		}
	}
	take := func(name, by string) error {
		ref, err := image.ParseReference(name)
		other, ok := taken[ref.String()]
		if err == nil && ok {
			return fmt.Errorf("%s and %s would both be written to %s; give the cache a tag of its own, as %s:buildcache", other, by, name, ref.Name())
		}
		if err == nil { // a directory is no name
			taken[ref.String()] = by
		}
		return nil
	}
	for _, e := range req.CacheTo {
		if err := take(e.Attrs["ref"], "the cache"); err != nil {
			return err
		}
	}
	to, _ := parseMountsTo(b.CacheMountsTo) // what is wrong with it is told where it is used
	return take(to.ref, "its mounts")
}
