package doctor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
)

// clean takes everything away that was stored, the last first: indexes before
// their manifests, and those before their blobs.
func (p *probe) clean(ctx context.Context) (string, error) {
	var refusals [2]string // of manifests, of blobs
	kinds := []string{"manifests", "blobs"}
	blobs := map[string]int{} // left, by repository
	for kind, name := range kinds {
		for _, s := range slices.Backward(p.stored) {
			if s.kind != name {
				continue
			}
			refusal := p.remove(ctx, s)
			if refusal == "" {
				continue
			}
			refusals[kind] = refusal
			if name == "blobs" {
				blobs[s.repository]++
				continue
			}
			p.left(s)
		}
	}
	for _, repository := range []string{p.ref.Repository, p.second} {
		if n := blobs[repository]; n > 0 {
			p.out.Left = append(p.out.Left, fmt.Sprintf("%s/%s: %d blobs of 66 kB at most", p.ref.Host, repository, n))
		}
	}
	switch {
	case refusals[0] != "":
		return "", errNo{found: "images cannot be deleted: " + refusals[0]}
	case refusals[1] != "":
		return "images; blobs are left to its garbage collection: " + refusals[1], nil
	}
	return "all that was pushed is gone", nil
}

func (p *probe) left(s stored) {
	name := p.ref.Host + "/" + s.repository
	if s.tag != "" {
		name += ":" + s.tag
	}
	p.out.Left = append(p.out.Left, name+"@"+s.digest)
}

// remove deletes one thing and answers why that is not possible, "" where it
// was.
func (p *probe) remove(ctx context.Context, s stored) string {
	scopes := []string{"repository:" + s.repository + ":pull,push,delete"}
	a, err := p.send(ctx, request{scopes: scopes, method: http.MethodDelete, path: s.repository + "/" + s.kind + "/" + s.digest})
	if err != nil {
		return err.Error()
	}
	if a.status/100 == 2 || a.status == http.StatusNotFound {
		return ""
	}
	return a.says()
}
