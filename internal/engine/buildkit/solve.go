package buildkit

import (
	"context"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/moby/buildkit/util/compression"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"

	"github.com/lighter-oci/lighter/internal/codec"
	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/event"
)

// Build runs one build.
func (c *Client) Build(ctx context.Context, req engine.Request, sink engine.Sink) (*engine.Response, error) {
	resp, err := c.build(ctx, req, sink)
	result := event.Result{}
	if err != nil {
		result.Error = err.Error()
	} else {
		result.Digest, result.Names = resp.Digest, resp.Names
	}
	sink(event.Event{Time: time.Now(), Result: &result})
	return resp, err
}

func (c *Client) build(ctx context.Context, req engine.Request, sink engine.Sink) (*engine.Response, error) {
	secrets, err := readSecrets(ctx, req.Secrets)
	if err != nil {
		return nil, err
	}
	localCaches(&req, func(w event.Warning) { sink(event.Event{Time: time.Now(), Warning: &w}) })
	opt, finish, err := c.solveOpt(ctx, req, secrets)
	if err != nil {
		return nil, &engine.RequestError{Err: err}
	}
	defer finish.abort()
	if err := c.makesVariants(ctx, opt); err != nil {
		return nil, &engine.RequestError{Err: err}
	}
	said, seen := outline(req, opt), watchContext(opt)
	// An internal build leaves no record in the engine's history, which would
	// keep what the steps printed.
	hidden := hiddenValues(req, secrets)
	opt.Internal = len(hidden) > 0
	display, err := c.display()
	if err != nil {
		return nil, err
	}
	view := newEvents(sink, hidden)
	view.optional = !slices.ContainsFunc(req.CacheTo, func(e engine.Entry) bool { return !optional(e) })
	view.mayLose = mayLose(req)
	view.losing, view.anew = view.mayLose, &client.SolveStatus{}
	var eg errgroup.Group
	statuses := make(chan *client.SolveStatus, 16)
	eg.Go(func() error { return view.follow(ctx, statuses, display) })
	resp, ran, err := c.solveAll(ctx, req, opt, view, statuses)
	var saveErr error // fails no build
	if req.SaveTo != nil && !req.Check && ctx.Err() == nil && (err == nil || req.SaveFailed && !c.gone(err)) {
		saveErr = c.SaveMounts(ctx, ran, &shownSave{req.SaveTo, statuses})
	}
	close(statuses)
	viewErr := eg.Wait()
	if saveErr != nil && ctx.Err() == nil {
		sink(event.Event{Time: time.Now(), Mount: &event.Mount{Action: event.MountFailed, Error: lastLine(saveErr.Error())}})
	}
	if err == nil {
		err = finish.commit()
	}
	if err == nil && saveErr != nil {
		err = ctx.Err() // who interrupts the sending interrupts the command
	}
	if err != nil {
		if ctx.Err() == nil && c.gone(err) {
			return nil, c.wentAway(err)
		}
		return nil, explain(ctx, err, req, view)
	}
	resp.Outline, resp.Context = said, seen.files()
	return resp, viewErr
}

func (c *Client) solve(ctx context.Context, req engine.Request, opt client.SolveOpt, statuses chan *client.SolveStatus) (*engine.Response, error) {
	if req.Check {
		return c.check(ctx, opt, statuses)
	}
	res, err := c.solveWithMounts(ctx, req, opt, statuses)
	if err != nil {
		return nil, err
	}
	return response(res.ExporterResponse, req.Outputs)
}

// checkPlatforms refuses Windows on the embedded engine: BuildKit marks the
// layers of a base image that it pulls for it as Windows ones, for every later
// build of the state too, and those then come out wrong.
func (c *Client) checkPlatforms(names []string) error {
	for _, p := range names {
		if _, err := platforms.Parse(p); err != nil {
			return &hintError{err: fmt.Errorf("--platform %q: it is none", p), hint: "write it as linux/amd64 or linux/arm/v7"}
		}
		if c.opt.Embedded && strings.HasPrefix(strings.ToLower(p), "windows") {
			return &hintError{
				err:  fmt.Errorf("--platform %s: the embedded engine builds for Linux", p),
				hint: "use --engine=ADDRESS of a BuildKit on Windows",
			}
		}
	}
	return nil
}

// lastSecond is the end of the year 9999, where RFC 3339 ends, and with it the
// times in JSON.
const lastSecond = 253402300799

// networkHost is the entitlement that --network host needs.
const networkHost = "network.host"

// solveOpt translates a request into BuildKit's terms.
func (c *Client) solveOpt(ctx context.Context, req engine.Request, secrets map[string][]byte) (client.SolveOpt, *outputs, error) {
	if err := c.checkPlatforms(req.Platforms); err != nil {
		return client.SolveOpt{}, nil, err
	}
	allow := req.Allow
	if req.Network == "host" && !slices.Contains(allow, networkHost) {
		allow = append(slices.Clone(allow), networkHost) // asked for by the flag itself
	}
	opt := client.SolveOpt{
		Frontend:            "dockerfile.v0",
		FrontendAttrs:       map[string]string{},
		LocalMounts:         map[string]fsutil.FS{},
		OCIStores:           map[string]content.Store{},
		AllowedEntitlements: allow,
		SharedKey:           sharedKey(req.Context),
		Ref:                 identity.NewID(),
	}
	if err := frontendAttrs(req, opt.FrontendAttrs); err != nil {
		return opt, nil, err
	}
	cleanup, err := inputs(ctx, req, &opt)
	if err != nil {
		return opt, nil, err
	}
	out := &outputs{cleanup: cleanup}
	for _, fill := range []func() error{
		func() error { return c.attachables(req, secrets, &opt) },
		func() error { return out.add(req, &opt) },
		func() error { return caches(req, &opt) },
	} {
		if err := fill(); err != nil {
			out.abort()
			return opt, nil, err
		}
	}
	return opt, out, nil
}

func frontendAttrs(req engine.Request, attrs map[string]string) error {
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	set("target", req.Target)
	set("platform", strings.Join(distinct(req.Platforms), ","))
	set("cgroup-parent", req.CgroupParent)
	for k, v := range req.BuildArgs {
		attrs["build-arg:"+k] = v
	}
	if v := req.BuildArgs["SOURCE_DATE_EPOCH"]; v != "" {
		if sec, err := strconv.ParseInt(v, 10, 64); err != nil || sec < 0 || sec > lastSecond {
			return fmt.Errorf("SOURCE_DATE_EPOCH=%s: want seconds since 1970, up to the year 9999", v)
		}
	}
	for k, v := range req.Labels {
		attrs["label:"+k] = v
	}
	for k, v := range req.Attests {
		attrs["attest:"+k] = v
	}
	if req.NoCache {
		attrs["no-cache"] = ""
	} else {
		set("no-cache", strings.Join(req.NoCacheFilter, ","))
	}
	if req.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	if req.ShmSize > 0 {
		attrs["shm-size"] = strconv.FormatInt(req.ShmSize, 10)
	}
	switch req.Network {
	case "", "default":
	case "none", "host":
		attrs["force-network-mode"] = req.Network
	default:
		return fmt.Errorf("--network %q: want default, none or host", req.Network)
	}
	hosts, err := addHosts(req.AddHosts)
	if err != nil {
		return err
	}
	set("add-hosts", hosts)
	set("ulimit", strings.Join(req.Ulimits, ","))
	return nil
}

// distinct is a list with each thing once, in its order.
func distinct(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// addHosts turns "name:ip" and "name=ip" into the CSV that the frontend reads.
func addHosts(in []string) (string, error) {
	if len(in) == 0 {
		return "", nil
	}
	fields := make([]string, 0, len(in))
	for _, h := range in {
		name, ip, ok := strings.Cut(h, "=")
		if !ok {
			name, ip, ok = strings.Cut(h, ":")
		}
		if !ok || name == "" || ip == "" {
			return "", fmt.Errorf("--add-host %q: want NAME:IP", h)
		}
		fields = append(fields, name+"="+strings.Trim(ip, "[]"))
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	if err := w.Write(fields); err != nil {
		return "", err
	}
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n"), w.Error()
}

// attachables are what the engine may ask of this process while it builds:
// logins, secrets, ssh agents.
func (c *Client) attachables(req engine.Request, secrets map[string][]byte, opt *client.SolveOpt) error {
	opt.Session = append(opt.Session, newLogins(c.opt))
	opt.Session = append(opt.Session, secretsprovider.FromMap(secrets))
	if req.Mounts != nil {
		opt.Session = append(opt.Session, mountsProvider{req.Mounts})
	}
	if len(req.SSH) == 0 {
		return nil
	}
	agents := make([]sshprovider.AgentConfig, 0, len(req.SSH))
	for _, s := range req.SSH {
		agents = append(agents, sshprovider.AgentConfig{ID: s.ID, Paths: s.Paths})
	}
	ssh, err := sshprovider.NewSSHAgentProvider(agents)
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	opt.Session = append(opt.Session, ssh)
	return nil
}

// caches adds --cache-from and --cache-to. A cache that is written takes the
// build's compression unless it says otherwise, so that layers are shared.
func caches(req engine.Request, opt *client.SolveOpt) error {
	for _, e := range req.CacheFrom {
		opt.CacheImports = append(opt.CacheImports, client.CacheOptionsEntry{Type: e.Type, Attrs: maps.Clone(e.Attrs)})
	}
	for _, e := range req.CacheTo {
		attrs := maps.Clone(e.Attrs)
		if attrs == nil {
			attrs = map[string]string{}
		}
		if e.Type != "inline" {
			if err := setCompression(attrs, engine.Layers{Compression: req.Compression}); err != nil {
				return err
			}
		}
		opt.CacheExports = append(opt.CacheExports, client.CacheOptionsEntry{Type: e.Type, Attrs: attrs})
	}
	return nil
}

// setCompression writes what the engine reads. eStargz is BuildKit's own.
func setCompression(attrs map[string]string, flags engine.Layers) error {
	if attrs[engine.AttrCompression] == compression.EStargz.String() {
		return nil
	}
	want, err := flags.With(attrs)
	if err != nil {
		return err
	}
	attrs[engine.AttrCompression] = string(want.Compression.Codec)
	if want.Compression.Codec != codec.Uncompressed {
		attrs[engine.AttrLevel] = strconv.Itoa(want.Compression.Level)
	}
	if want.Force {
		attrs[engine.AttrForce] = "true"
	}
	return nil
}

// check runs the Dockerfile linter and nothing else.
func (c *Client) check(ctx context.Context, opt client.SolveOpt, statuses chan *client.SolveStatus) (*engine.Response, error) {
	opt.Exports, opt.CacheExports = nil, nil
	res, err := c.lint(ctx, opt, statuses)
	if err != nil {
		return nil, err
	}
	if err := lintError(res["result.json"]); err != nil {
		return nil, err
	}
	out := &engine.Response{
		CheckReport: string(res["result.txt"]),
		CheckJSON:   res["result.json"],
		CheckFailed: string(res["result.statuscode"]) != "" && string(res["result.statuscode"]) != "0",
	}
	return out, nil
}
