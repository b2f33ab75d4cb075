package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	kongcompletion "github.com/jotaen/kong-completion"
	"github.com/posener/complete"

	"github.com/lighter-oci/lighter/internal/term"
)

// completionCmd prints what a shell has to read to complete our command line.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is what `lighter completion --help` says.
func (completionCmd) Help() string {
	return "In ~/.bashrc or ~/.zshrc: source <(lighter completion bash), or zsh. In ~/.config/fish/config.fish: lighter completion fish | source."
}

// shells ask this binary for candidates, with the line in COMP_LINE.
var shells = map[string]string{
	"bash": "complete -o default -o bashdefault -C '%[1]s' lighter\n",
	"zsh":  "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\ncomplete -o default -o bashdefault -C '%[1]s' lighter\n",
	"fish": `function __complete_lighter
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    '%[1]s'
end
complete -c lighter -a "(__complete_lighter)"
`,
}

// Run prints the lines for one shell.
func (c completionCmd) Run(out *term.Output) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("completion: %w", err)
	}
	if strings.ContainsRune(self, '\'') {
		return fmt.Errorf("completion: the path %q has a quote in it: install lighter elsewhere", self)
	}
	_, err = fmt.Fprintf(out.Out, shells[c.Shell], self)
	return err
}

// predictors are what the tag predictor in the commands' fields names.
func predictors() kongcompletion.Option {
	layers := []string{"zstd:1", "zstd:3", "zstd:6", "zstd:9", "zstd:12", "zstd:15", "zstd:19", "gzip:1", "gzip:6", "gzip:9", "uncompressed"}
	return kongcompletion.WithPredictors(map[string]complete.Predictor{
		"file":        complete.PredictFiles("*"),
		"dir":         complete.PredictDirs("*"),
		"compression": complete.PredictSet(layers...),
		"conversion":  complete.PredictSet(append(slices.Clone(layers), "zstd:chunked", "keep")...),
		"required":    complete.PredictSet(append(slices.Clone(layers), "zstd:chunked", "zstd", "gzip")...),
		"cache":       complete.PredictSet("auto", inGHA),
		"build":       complete.PredictFunc(buildsHere),
		"state":       complete.PredictSet("queued", "running", "done", "failed", "killed", "interrupted"),
		"variant":     complete.PredictFunc(variantsHere),
		"platform":    complete.PredictSet("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x"),
	})
}
