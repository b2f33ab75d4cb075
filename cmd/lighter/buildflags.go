package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/tonistiigi/go-csvvalue"
	xterm "golang.org/x/term"

	"github.com/lighter-oci/lighter/internal/engine"
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
		var rest []string
		for _, part := range strings.Split(s, ",") {
			if key, _, _ := strings.Cut(part, "="); key != "type" && key != "disabled" {
				rest = append(rest, part)
			}
		}
		req.Attests[kind] = strings.Join(rest, ",")
		return nil
	}
	for _, s := range b.Attest {
		if err := add("--attest", s); err != nil {
			return err
		}
	}
	for kind, s := range map[string]string{"provenance": b.Provenance, "sbom": b.SBOM} {
		if s == "" {
			continue
		}
		if err := add("--"+kind, canonicalAttest(kind, s)); err != nil {
			return err
		}
	}
	return nil
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

// fillOutputs reads -o, --push, --load and -t.
func (b *buildCmd) fillOutputs(req *engine.Request) error {
	if req.Check {
		return nil
	}
	for _, t := range b.Tag {
		named, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return fmt.Errorf("-t %q: %w", t, err)
		}
		if _, pinned := named.(reference.Digested); pinned {
			return fmt.Errorf("-t %q: a build decides its digest itself: name a tag only", t)
		}
	}
	for _, s := range b.Output {
		out, err := parseOutput(s)
		if err != nil {
			return err
		}
		if out.Type == "cacheonly" {
			continue
		}
		req.Outputs = append(req.Outputs, out)
	}
	if b.Push {
		pushOutput(req)
	}
	if b.Load && !slices.ContainsFunc(req.Outputs, isImage) {
		req.Outputs = append(req.Outputs, engine.Output{Entry: engine.Entry{Type: "image", Attrs: map[string]string{}}})
	}
	for i := range req.Outputs {
		if err := b.nameOutput(req, &req.Outputs[i]); err != nil {
			return err
		}
	}
	return nil
}

func isImage(o engine.Output) bool { return o.Type == "image" }

// pushOutput makes every image output push, or adds one.
func pushOutput(req *engine.Request) {
	found := false
	for i, o := range req.Outputs {
		if isImage(o) {
			req.Outputs[i].Attrs["push"] = "true"
			found = true
		}
	}
	if !found {
		req.Outputs = append(req.Outputs, engine.Output{Entry: engine.Entry{Type: "image", Attrs: map[string]string{"push": "true"}}})
	}
}

// nameOutput gives an output the tags, and refuses what cannot work before
// anything is built.
func (b *buildCmd) nameOutput(req *engine.Request, o *engine.Output) error {
	if o.Type == "local" || o.Type == "tar" {
		return nil
	}
	if o.Attrs["name"] == "" && len(b.Tag) > 0 {
		o.Attrs["name"] = strings.Join(b.Tag, ",")
	}
	if isTrue(o.Attrs, "push") && o.Attrs["name"] == "" {
		return errors.New("a push needs a name: add -t REGISTRY/NAME:TAG")
	}
	if o.Attrs["name"] == "" {
		return nil
	}
	for n := range strings.SplitSeq(o.Attrs["name"], ",") {
		if n == "*" { // whatever the frontend names it
			continue
		}
		if _, err := reference.ParseNormalizedNamed(n); err != nil {
			return fmt.Errorf("-o name=%q: %w", n, err)
		}
	}
	return nil
}

func isTrue(attrs map[string]string, key string) bool {
	v, ok := attrs[key]
	if !ok {
		return false
	}
	b, err := strconv.ParseBool(v)
	return v == "" || (err == nil && b)
}

// parseOutput reads one -o. A bare path is a directory, a bare dash a tar on
// standard output, as docker has it.
func parseOutput(s string) (engine.Output, error) {
	out := engine.Output{}
	switch {
	case s == "-":
		out.Type, out.Dest = "tar", "-"
	case !strings.Contains(s, "="):
		out.Type, out.Dest = "local", s
	default:
		f, err := fields("-o", s)
		if err != nil {
			return out, err
		}
		out.Type, out.Dest, out.Attrs = f["type"], f["dest"], f
		delete(f, "type")
		delete(f, "dest")
	}
	if out.Attrs == nil {
		out.Attrs = map[string]string{}
	}
	if out.Type == "registry" {
		out.Type = "image"
		out.Attrs["push"] = "true"
	}
	switch out.Type {
	case "image", "cacheonly":
	case "local":
		if out.Dest == "" {
			return out, fmt.Errorf("-o %q: add dest=DIRECTORY", s)
		}
	case "oci", "docker", "tar":
		if out.Dest == "" && out.Type == "docker" {
			return out, fmt.Errorf("-o %q: add dest=FILE, or use --load for a running Docker", s)
		}
		if out.Dest == "" {
			return out, fmt.Errorf("-o %q: add dest=FILE, or dest=- for standard output", s)
		}
		if out.Dest == "-" {
			if xterm.IsTerminal(int(os.Stdout.Fd())) {
				return out, fmt.Errorf("-o %q: an archive would spoil the terminal: send standard output somewhere, or add dest=FILE", s)
			}
			out.File = stdoutFile
		}
	default:
		return out, fmt.Errorf("-o %q: want type=image, oci, docker, local or tar", s)
	}
	return out, nil
}
