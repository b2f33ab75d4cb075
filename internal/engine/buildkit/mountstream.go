package buildkit

import (
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/moby/buildkit/session/sshforward"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/lighter-oci/lighter/internal/engine"
)

// Cache mounts travel over gRPC methods. Each is a stream of bytes in both
// directions, in the messages that BuildKit forwards SSH with. The client's
// session serves the first to the engine, the engine the others to its client.
const (
	mountsService = "lighter.engine.v1.Mounts"
	restoreMethod = "Restore"
	usedMethod    = "Used" // which mounts steps were given: both as JSON
	listMethod    = "List" // which mounts there are
	saveMethod    = "Save"
	fillMethod    = "Fill" // one mount at a time
)

// What a stream is about, in its metadata: the mounts as JSON.
const mountsKey = "lighter-cache-mounts-bin"

var bothWays = grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// registerMounts registers the methods that one end serves.
func registerMounts(srv *grpc.Server, methods map[string]func(grpc.ServerStream) error) {
	desc := grpc.ServiceDesc{ServiceName: mountsService, HandlerType: (*any)(nil)}
	for name, handle := range methods {
		stream := bothWays
		stream.StreamName = name
		stream.Handler = func(_ any, s grpc.ServerStream) error { return handle(s) }
		desc.Streams = append(desc.Streams, stream)
	}
	srv.RegisterService(&desc, nil)
}

var errOneMount = status.Error(codes.InvalidArgument, "one cache mount at a time")

// messages is a grpc stream, of either end.
type messages interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// byteStream reads and writes the bytes in a stream's messages.
type byteStream struct {
	messages
	end func() // of the stream

	reading sync.Mutex
	rest    []byte
	over    error // of the other side's messages
}

func (b *byteStream) Close() error {
	b.end()
	return nil
}

// finish ends this side's bytes and waits for the other side to be done.
func (b *byteStream) finish() error {
	_ = b.Close()
	_, err := io.Copy(io.Discard, b)
	return err
}

const maxMessage = 1 << 20 // of 4 MiB that gRPC takes

func (b *byteStream) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	for len(b.rest) == 0 {
		if b.over != nil {
			return 0, b.over
		}
		var m sshforward.BytesMessage
		b.over = b.RecvMsg(&m)
		b.rest = m.Data
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *byteStream) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), maxMessage)]
		if err := b.SendMsg(&sshforward.BytesMessage{Data: part}); err != nil {
			return n, err
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

func mountsMethod(name string) string { return "/" + mountsService + "/" + name }

func aboutMounts(ctx context.Context, list []engine.CacheMount) (context.Context, error) {
	b, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, mountsKey, string(b)), nil
}

func whichMounts(ctx context.Context) (list []engine.CacheMount, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	v := md.Get(mountsKey)
	if len(v) != 1 {
		return nil, status.Error(codes.InvalidArgument, "which cache mounts?")
	}
	if err := json.Unmarshal([]byte(v[0]), &list); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "which cache mounts? %v", err)
	}
	return list, nil
}

// sendJSON and receiveJSON are for what fits into one message.
func sendJSON(to messages, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return to.SendMsg(&sshforward.BytesMessage{Data: b})
}

func receiveJSON(from messages, v any) error {
	var m sshforward.BytesMessage
	if err := from.RecvMsg(&m); err != nil {
		return err
	}
	return json.Unmarshal(m.Data, v)
}
