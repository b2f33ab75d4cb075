// Package cachemount owns the contents of RUN --mount=type=cache directories as
// an OCI artifact: what is kept of a directory, how it is cut, packed and
// named, how a directory becomes one again, whole or not at all, and how an
// artifact that several builds write grows neither torn nor without bound.
//
// It has two halves that speak over one stream of bytes. An Agent sees
// directories; it runs in an engine's process, or in a container beside the
// mount. A Session is the other end; it holds the credentials and talks to
// whatever keeps the artifact, an image.Source and image.Target. Neither knows
// BuildKit: how a mount's directory is reached, and over which stream, is the
// engine's.
//
// It never compresses (codec does), never speaks to a network (registry does)
// and never prints. What it reads of an artifact it holds against digests that
// begin at the manifest's.
//
// # The artifact
//
// An artifact is an OCI image manifest. Its config lists mounts; each has a
// tree, a blob that says which entries the directory has, and packs, blobs that
// hold the contents of its files:
//
//	manifest ── config: mounts by id, platform and what they start from
//	        ├── tree of a mount
//	        ├── pack of that mount: frames, index
//	        ├── pack, from an earlier push
//	        └── tree of another mount …
//
// Contents are cut into chunks, named by their SHA-256: a small file is one, a
// large one is cut where its content says. Chunks that stand next to each other
// in the tree share a zstd frame of about a MiB, which is the unit of fetching.
// A pack ends with its index, which has the frames' sizes and the chunks'
// digests; the tree names chunks by number, through the packs in their order, so
// that a tree is small and a push that changed little sends little.
package cachemount
