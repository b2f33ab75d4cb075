package buildkit

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	shlex "github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/lighter-oci/lighter/internal/engine"
)

// outline reads the Dockerfile that the session offers. Where it cannot, it
// says nothing, because the engine will.
func outline(req engine.Request, opt client.SolveOpt) *engine.Outline {
	dir, ok := opt.LocalMounts[localDockerfile]
	if !ok {
		return nil
	}
	name := opt.FrontendAttrs["filename"]
	f, err := dir.Open(name)
	if err != nil {
		return nil
	}
	source, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil
	}
	out := parseOutline(source, req.BuildArgs)
	if out == nil {
		return nil
	}
	out.File, out.Ignore = name, filepath.Join(req.Context, ".dockerignore")
	if req.Dockerfile == "-" {
		return out
	}
	path := filepath.Join(req.Context, name)
	if req.Dockerfile != "" {
		out.File, path = req.Dockerfile, req.Dockerfile
	}
	if own := path + ".dockerignore"; exists(own) {
		out.Ignore = own
	}
	return out
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// parseOutline is the outline of a Dockerfile's source, nil where it cannot be
// read as one.
func parseOutline(source []byte, args map[string]string) *engine.Outline {
	ast, err := parser.Parse(bytes.NewReader(source))
	if err != nil {
		return nil
	}
	stages, meta, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return nil
	}
	r := reader{lex: shlex.NewLex(ast.EscapeToken), args: args, lines: strings.Split(string(source), "\n")}
	out := &engine.Outline{}
	global := map[string]string{}
	for i := range meta {
		out.Args = append(out.Args, r.instruction(&meta[i], global, nil))
	}
	envs := make([]map[string]string, len(stages))
	for i, s := range stages {
		st := engine.Stage{Name: s.Name, Parent: -1, Base: r.expand(s.BaseName, global)}
		st.Instruction = engine.Instruction{Word: "FROM", Text: s.SourceCode}
		r.place(&st.Instruction, s.Location)
		if st.Name == "" {
			st.Name = "stage-" + strconv.Itoa(i)
		}
		env := map[string]string{}
		if st.Parent = stageIndex(out.Stages, st.Base); st.Parent >= 0 {
			env = maps.Clone(envs[st.Parent])
		}
		for _, c := range s.Commands {
			st.Instructions = append(st.Instructions, r.instruction(c, env, global))
		}
		envs[i] = env
		out.Stages = append(out.Stages, st)
	}
	return out
}

// stageIndex finds the stage that a FROM names, the nearest one above it.
func stageIndex(above []engine.Stage, name string) int {
	for i, s := range slices.Backward(above) {
		if strings.EqualFold(s.Name, name) {
			return i
		}
	}
	return -1
}

// reader turns BuildKit's instructions into the outline's.
type reader struct {
	lex   *shlex.Lex
	args  map[string]string // --build-arg
	lines []string          // of the source
}

// expand replaces variables. A word with one that is not known stays as it is.
func (r reader) expand(word string, env map[string]string) string {
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	out, unknown, err := r.lex.ProcessWord(word, shlex.EnvsFromSlice(list))
	if err != nil || len(unknown) > 0 {
		return word
	}
	return out
}

// place fills in where an instruction stands.
func (r reader) place(in *engine.Instruction, at []parser.Range) {
	if len(at) == 0 {
		return
	}
	in.Line = at[0].Start.Line
	if i := in.Line - 1; i >= 0 && i < len(r.lines) {
		in.First = strings.TrimSpace(r.lines[i])
	}
}

// instruction reads one command and adds to env what it sets. An ARG without a
// value takes that of global, the ARGs above the first FROM.
func (r reader) instruction(c instructions.Command, env, global map[string]string) engine.Instruction {
	in := engine.Instruction{Word: strings.ToUpper(c.Name())}
	if s, ok := c.(interface{ String() string }); ok {
		in.Text = strings.Join(strings.Fields(s.String()), " ")
	}
	r.place(&in, c.Location())
	// What cannot be expanded yet stays as it is: nothing is lost by an error.
	if e, ok := c.(instructions.SupportsSingleWordExpansion); ok {
		_ = e.Expand(func(word string) (string, error) { return r.expand(word, env), nil })
	}
	switch c := c.(type) {
	case *instructions.ArgCommand:
		r.arg(&in, c, env, global)
	case *instructions.EnvCommand:
		in.Env = map[string]string{}
		for _, kv := range c.Env {
			in.Env[kv.Key] = kv.Value
		}
		maps.Copy(env, in.Env)
	case *instructions.UserCommand:
		in.Value = c.User
	case *instructions.WorkdirCommand:
		in.Value = c.Path
	case *instructions.CopyCommand:
		in.Sources, in.Dest, in.From, in.Exclude = c.SourcePaths, c.DestPath, c.From, c.ExcludePatterns
		in.Text += contents(c.SourceContents)
	case *instructions.AddCommand:
		in.Sources, in.Dest, in.Exclude = c.SourcePaths, c.DestPath, c.ExcludePatterns
		in.Text += contents(c.SourceContents)
	case *instructions.RunCommand:
		r.run(&in, c)
	}
	return in
}

func (r reader) arg(in *engine.Instruction, c *instructions.ArgCommand, env, global map[string]string) {
	in.Env = map[string]string{}
	for _, kv := range c.Args {
		in.Names = append(in.Names, kv.Key)
		if value, ok := r.args[kv.Key]; ok {
			in.Env[kv.Key] = value
		} else if kv.Value != nil {
			in.Env[kv.Key] = *kv.Value
		} else if value, ok := global[kv.Key]; ok {
			in.Env[kv.Key] = value
		}
	}
	maps.Copy(env, in.Env)
}

// run reads a RUN, whose form may be exec, shell or a here-document.
func (r reader) run(in *engine.Instruction, c *instructions.RunCommand) {
	words := slices.Clone(c.CmdLine)
	if !c.PrependShell {
		for i, w := range words {
			words[i] = strconv.Quote(w)
		}
	}
	in.Script = strings.Join(words, " ")
	for _, f := range c.Files {
		in.Text += "\n" + f.Data
		in.Script += "\n" + f.Data
	}
	in.Offline = instructions.GetNetwork(c) == instructions.NetworkNone
	for _, m := range instructions.GetMounts(c) {
		mount := engine.Mount{
			Type: string(m.Type), From: m.From, Source: m.Source, Target: m.Target,
			ID: m.CacheID, Sharing: string(m.CacheSharing),
		}
		if m.Type == instructions.MountTypeCache && mount.ID == "" {
			mount.ID = m.Target
		}
		in.Mounts = append(in.Mounts, mount)
	}
}

// contents is the text of files that an instruction has in it.
func contents(files []instructions.SourceContent) string {
	var b strings.Builder
	for _, f := range files {
		b.WriteString("\n" + f.Data)
	}
	return b.String()
}
