package buildkit

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"

	"github.com/lighter-oci/lighter/internal/engine"
)

// mountUse is a cache mount as a step's definition has it.
type mountUse struct {
	engine.CacheMount
	step  digest.Digest
	mount *pb.Mount
	from  *pb.Definition // what the mount starts from; nil for an empty directory
	anew  bool           // the step runs without cache, for which BuildKit clears its mounts away
	began time.Time      // when the first step began that ran and has it; zero where none is known
}

// dir is the same for uses that see the same directory.
func (u mountUse) dir() string { return u.ID + "\x00" + u.Base }

// recordName is the name of the record by which an agent remembers a directory: the
// mount that it belongs to, by whatever it is called there, and which part it is.
func recordName(mount, selector string) string {
	return digest.FromString(mount + "\x00" + selector).Encoded()
}

// mountUses are those of all steps of a definition.
func mountUses(def *pb.Definition) ([]mountUse, error) {
	g := graph{def: def, ops: map[digest.Digest]*pb.Op{}, recipes: map[digest.Digest]string{}}
	order := make([]digest.Digest, len(def.Def))
	for i, b := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(b); err != nil {
			return nil, fmt.Errorf("read the build's definition: %w", err)
		}
		order[i] = digest.FromBytes(b)
		g.ops[order[i]] = op
	}
	var uses []mountUse
	for _, dgst := range order {
		op := g.ops[dgst]
		for _, m := range cacheMounts(op.GetExec()) {
			u := mountUse{
				CacheMount: engine.CacheMount{ID: m.CacheOpt.ID, Platform: platformName(op.Platform)},
				step:       dgst, mount: m, anew: def.Metadata[string(dgst)].GetIgnoreCache(),
			}
			if m.Input >= 0 && int(m.Input) < len(op.Inputs) {
				in := op.Inputs[m.Input]
				u.Base, u.from = g.recipe(digest.Digest(in.Digest)), g.upTo(in)
			}
			uses = append(uses, u)
		}
	}
	return uses, nil
}

// cacheMounts are those of a step that have an ID.
func cacheMounts(exec *pb.ExecOp) (list []*pb.Mount) {
	for _, m := range exec.GetMounts() {
		if m.MountType == pb.MountType_CACHE && m.CacheOpt != nil {
			list = append(list, m)
		}
	}
	return list
}

// graph is a definition that was read.
type graph struct {
	def     *pb.Definition
	ops     map[digest.Digest]*pb.Op
	recipes map[digest.Digest]string // of steps that were met before
}

func (g graph) recipe(dgst digest.Digest) string {
	if r, ok := g.recipes[dgst]; ok {
		return r
	}
	op := g.ops[dgst]
	inputs := make([]string, len(op.GetInputs()))
	for i, in := range op.GetInputs() {
		inputs[i] = fmt.Sprintf("%s %d", g.recipe(digest.Digest(in.Digest)), in.Index)
	}
	r := recipe(op, inputs)
	g.recipes[dgst] = r
	return r
}

// upTo is the definition of what comes out of a step. No step of it runs only
// because the build wants all of them to: what is there is what was mounted.
func (g graph) upTo(end *pb.Input) *pb.Definition {
	b, _ := (&pb.Op{Inputs: []*pb.Input{end}}).MarshalVT() // never fails
	out := &pb.Definition{Def: append(g.def.Def[:len(g.def.Def)-1:len(g.def.Def)-1], b), Metadata: maps.Clone(g.def.Metadata)}
	for dgst, meta := range out.Metadata {
		if meta.GetIgnoreCache() {
			meta = meta.CloneVT()
			meta.IgnoreCache = false
			out.Metadata[dgst] = meta
		}
	}
	return out
}

// recipe is a digest of how a step comes about that is the same in any build:
// BuildKit's own have in them which session local files come from. Inputs are
// the recipes of the steps that it builds upon, each with the number of an output.
func recipe(op *pb.Op, inputs []string) string {
	sum := sha256.New()
	for _, in := range inputs {
		fmt.Fprintln(sum, in)
	}
	if op != nil {
		op = op.CloneVT()
		src := op.GetSource()
		if strings.HasPrefix(src.GetIdentifier(), "local://") {
			src.Attrs = nil
		}
		// BuildKit fills in its own platform where a definition says none.
		if op.GetExec() != nil || strings.HasPrefix(src.GetIdentifier(), "docker-image://") || strings.HasPrefix(src.GetIdentifier(), "oci-layout://") {
			fmt.Fprintln(sum, platformName(op.Platform))
		}
		op.Inputs, op.Platform = nil, nil
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(op) // what was unmarshaled
		sum.Write(b)
	}
	return digest.NewDigest(digest.SHA256, sum).String()
}

// platformName is a platform as CacheMount has it; nil is this machine's.
func platformName(p *pb.Platform) string {
	spec := platforms.DefaultSpec()
	if p != nil {
		spec = ocispecs.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	}
	return platforms.Format(platforms.Normalize(spec))
}
