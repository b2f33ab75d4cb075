package registry_test

import (
	"fmt"
	"testing"

	"github.com/lighter-oci/lighter/internal/image"
	"github.com/lighter-oci/lighter/internal/image/imagetest"
	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/registry/registrytest"
)

// reference answers a reference that has to be one.
func reference(t testing.TB, ref string) image.Reference {
	t.Helper()
	parsed, err := image.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestRepositoryIsATarget(t *testing.T) {
	for label, opts := range map[string]registry.Options{
		"defaults": {}, "one at a time, in many patches": {Concurrency: 1, PatchSize: 100_000},
	} {
		t.Run(label, func(t *testing.T) {
			s, n := registrytest.Start(t, registrytest.Options{}), 0
			var other image.Reference
			imagetest.TestTarget(t, func(t *testing.T, f *imagetest.Fixture) imagetest.OpenedTarget {
				if n++; n == 1 {
					other = reference(t, s.Push(t, "team/base", f))
				}
				r, _ := repository(t, client(t, opts), s.Ref(fmt.Sprintf("team/app%d", n)))
				return imagetest.OpenedTarget{Target: r, Source: r, Names: [2]string{"one", "two"}, Other: other}
			})
		})
	}
}
