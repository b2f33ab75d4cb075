package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/lighter-oci/lighter/internal/project"
	"github.com/lighter-oci/lighter/internal/report"
	"github.com/lighter-oci/lighter/internal/term"
	"github.com/lighter-oci/lighter/internal/toolchain"
)

// initCmd writes what a project begins with.
type initCmd struct {
	Dir string `arg:"" optional:"" default:"." predictor:"dir" help:"Directory of the project."`

	GitHub bool `name:"github" help:"Also write .github/workflows/image.yml, which builds and pushes the image in GitHub Actions."`
}

// Help is what `lighter init --help` says below the flags.
func (initCmd) Help() string {
	return "Looks for go.mod, Cargo.toml, package.json, CMakeLists.txt, a Makefile, C and C++ sources, a Dockerfile, and git's remote. A file that is there already stays as it is."
}

// aRelease is what the linker stamps into one.
var aRelease = regexp.MustCompile(`\Av?(\d+\.\d+\.\d+)\z`)

// Run writes, and says what and what next.
func (c *initCmd) Run(out *term.Output) error {
	opt := project.InitOptions{GitHub: c.GitHub, Action: "main"}
	if m := aRelease.FindStringSubmatch(stamped); m != nil {
		opt.Action = "v" + m[1]
	}
	done, err := project.Init(c.Dir, opt)
	if err != nil {
		return err
	}
	kind := ""
	if done.Kind != "" {
		kind = ", for a " + done.Kind
	}
	fmt.Fprintln(out.Err, report.Clean("wrote "+strings.Join(done.Written, " and ")+kind))
	if len(done.Kept) > 0 {
		fmt.Fprintln(out.Err, report.Clean("kept "+strings.Join(done.Kept, " and ")))
	}
	next := "`lighter build --push`"
	if _, err := toolchain.Detect(c.Dir); !done.Build && err == nil {
		next = "`lighter pack --push`"
	} else if !done.Build {
		next = "write a Dockerfile, then " + next
	}
	if strings.HasPrefix(done.Image, project.ExampleHost+"/") {
		next = "put the image's real name into " + project.Name + ", then " + next
	}
	fmt.Fprintln(out.Err, "next: "+next)
	return nil
}
