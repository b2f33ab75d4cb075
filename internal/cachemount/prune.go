package cachemount

import "context"

// Prune drops mounts of an artifact by age and by size, as a push would, and
// sends none. It answers which went. Errors are those of Open, and the target's.
func Prune(ctx context.Context, p Place, o PushOptions) ([]Key, error) {
	base, err := Open(ctx, p)
	if err != nil {
		return nil, err
	}
	q := &push{p: p, o: o, base: base}
	if q.merge(); len(q.out.Dropped) == 0 {
		return nil, nil
	}
	return q.out.Dropped, q.publish(ctx)
}
