package doctor

import (
	"context"

	"github.com/lighter-oci/lighter/internal/registry"
	"github.com/lighter-oci/lighter/internal/report"
)

// Credentials lists what registries there are credentials for, what does not
// work first.
func Credentials(ctx context.Context, credentials registry.Credentials) []report.CredentialCheck {
	found, wrong := credentials.List(ctx)
	checks := []report.CredentialCheck{}
	for _, w := range wrong {
		checks = append(checks, report.CredentialCheck{Source: w.Source, Problem: w.Reason, Fix: w.Next})
	}
	for _, c := range found {
		checks = append(checks, report.CredentialCheck{Registry: c.Host, Account: c.Account, Source: c.Source})
	}
	return checks
}
