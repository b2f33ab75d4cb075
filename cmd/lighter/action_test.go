package main

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The inputs and outputs of docker/build-push-action that make sense here, by
// its README: whoever comes from there changes one line.
var buildPushInputs = strings.Fields(`add-hosts allow annotations attests build-args build-contexts cache-from cache-to call
	cgroup-parent context file labels load network no-cache no-cache-filters outputs platforms provenance pull push sbom secrets
	secret-envs secret-files shm-size ssh tags target ulimit github-token`)

// Every input reaches the script under its name, and the script reads it; what
// a user types is never part of a command.
func TestActionPassesWhatItIsGiven(t *testing.T) {
	raw, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var action struct {
		Inputs  map[string]struct{ Description string }
		Outputs map[string]struct{ Value string }
		Runs    struct {
			Using string
			Steps []struct {
				Run string
				Env map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(raw, &action); err != nil {
		t.Fatal(err)
	}
	for _, name := range buildPushInputs {
		if _, ok := action.Inputs[name]; !ok {
			t.Errorf("no input %s", name)
		}
	}
	given, read := map[string]string{}, ""
	for _, s := range action.Runs.Steps {
		if strings.Contains(s.Run, "${{") {
			t.Errorf("an expression in a command: %s", s.Run)
		}
		script, err := os.ReadFile("../../" + strings.Trim(strings.TrimPrefix(s.Run, `"$GITHUB_ACTION_PATH/`), `"`))
		if err != nil {
			t.Fatal(err)
		}
		read += string(script)
		for k, v := range s.Env {
			given[k] = v
		}
	}
	for name, input := range action.Inputs {
		variable := "INPUT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if want := "${{ inputs." + name + " }}"; given[variable] != want {
			t.Errorf("%s is %q, want %q", variable, given[variable], want)
		}
		if !strings.Contains(read, variable) || input.Description == "" {
			t.Errorf("the scripts do not read %s, or nobody says what it is", variable)
		}
	}
	for _, name := range []string{"imageid", "digest", "metadata"} {
		if want := "${{ steps.build.outputs." + name + " }}"; action.Outputs[name].Value != want {
			t.Errorf("output %s is %q, want %q", name, action.Outputs[name].Value, want)
		}
	}
}
