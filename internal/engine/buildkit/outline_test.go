package buildkit

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The outlines that package explain is tested on are what this parser makes of
// the Dockerfiles beside them.
func TestOutline(t *testing.T) {
	files, err := filepath.Glob("../../explain/testdata/*/Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatal("no Dockerfiles:", err)
	}
	for _, name := range files {
		dir := filepath.Dir(name)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			out := parseOutline(source, map[string]string{"VERSION": "1.2"})
			if out == nil {
				t.Fatal("no outline")
			}
			got, err := json.MarshalIndent(told(reflect.ValueOf(*out)), "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join(dir, "outline.json")
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Errorf("-want +got, -update accepts it:\n%s", diff)
			}
		})
	}
}

// told is a value without the fields that are zero, of which an outline has many.
func told(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = told(v.Index(i))
		}
		return list
	case reflect.Struct:
		fields := map[string]any{}
		for name, f := range v.Fields() {
			switch {
			case name.Anonymous:
				maps.Copy(fields, told(f).(map[string]any))
			case !f.IsZero() || name.Name == "Parent":
				fields[name.Name] = told(f)
			}
		}
		return fields
	}
	return v.Interface()
}
