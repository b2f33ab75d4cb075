package buildkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/upload/uploadprovider"
)

// stdinContext tells a tar from a Dockerfile by its first bytes.
func stdinContext(in io.Reader, opt *client.SolveOpt, stdin tempFile) error {
	if in == nil {
		return errors.New("context \"-\" needs a tar or a Dockerfile on standard input")
	}
	r := bufio.NewReaderSize(in, 1024)
	head, err := r.Peek(512)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read context from standard input: %w", err)
	}
	if len(head) == 0 {
		return errors.New("standard input is empty: pipe a tar or a Dockerfile into `lighter build -`")
	}
	if isArchive(head) {
		uploadContext(io.NopCloser(r), opt)
		return nil
	}
	path, err := stdin("Dockerfile")
	if err != nil {
		return err
	}
	if err := writeFile(path, r); err != nil {
		return fmt.Errorf("read Dockerfile from standard input: %w", err)
	}
	empty, err := stdin("empty")
	if err != nil {
		return err
	}
	if err := os.Mkdir(empty, 0o700); err != nil {
		return err
	}
	opt.FrontendAttrs["filename"] = "Dockerfile"
	if err := localDir(localDockerfile, filepath.Dir(path), opt); err != nil {
		return err
	}
	return localDir(localContext, empty, opt)
}

func uploadContext(r io.ReadCloser, opt *client.SolveOpt) {
	up := uploadprovider.New()
	opt.FrontendAttrs["context"] = up.Add(r)
	opt.Session = append(opt.Session, up)
}

// isArchive knows the tar magic and the compressions that BuildKit unpacks.
func isArchive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b\x08", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if strings.HasPrefix(string(head), magic) {
			return true
		}
	}
	return len(head) > 262 && string(head[257:262]) == "ustar"
}

// cancellable is a reader that ctx ends, also while it waits for input: a
// pipe that nobody writes to would otherwise outlast any Ctrl-C.
type cancellable struct {
	ctx   context.Context
	from  io.Reader
	start sync.Once
	pipe  *io.PipeReader
}

func (c *cancellable) Read(p []byte) (int, error) {
	c.start.Do(func() {
		var w *io.PipeWriter
		c.pipe, w = io.Pipe()
		context.AfterFunc(c.ctx, func() { w.CloseWithError(context.Cause(c.ctx)) })
		go func() {
			_, err := io.Copy(w, c.from)
			w.CloseWithError(err) // nil is the end of the file
		}()
	})
	return c.pipe.Read(p)
}
