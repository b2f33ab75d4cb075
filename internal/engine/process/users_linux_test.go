package process

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// somebody is an ordinary user to run this test binary as.
type somebody struct {
	*user.User
	uid, gid int
	home     string
	exe      string // the test binary, where the user may execute it
}

// madeUsers are the accounts to remove at the end.
var madeUsers struct {
	sync.Mutex
	names []string
	dirs  []string // left behind otherwise
}

// rootlessUser is a user with subordinate ids: ourselves where we are no root.
func rootlessUser(t *testing.T) somebody {
	t.Helper()
	if os.Geteuid() == 0 {
		return newUser(t, true)
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return somebody{User: u, uid: os.Geteuid(), gid: os.Getegid(), home: t.TempDir(), exe: exe}
}

// newUser makes an account, with or without subordinate ids.
func newUser(t *testing.T, subordinate bool) somebody {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make accounts") // the rest runs as the current user
	}
	madeUsers.Lock()
	defer madeUsers.Unlock()
	// Not under t.TempDir, whose parents let nobody else in.
	home, err := os.MkdirTemp("/tmp", "lighter-test-")
	if err != nil {
		t.Fatal(err)
	}
	madeUsers.dirs = append(madeUsers.dirs, home)
	name := fmt.Sprintf("lt%d-%d", os.Getpid(), len(madeUsers.names))
	// A system account gets no subordinate ids by itself.
	admin(t, "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", home, name)
	madeUsers.names = append(madeUsers.names, name)
	if subordinate {
		subuid, _ := os.ReadFile("/etc/subuid")
		subgid, _ := os.ReadFile("/etc/subgid")
		free := freeSubordinate(subuid, subgid)
		ids := fmt.Sprintf("%d-%d", free, free+65535)
		admin(t, "usermod", "--add-subuids", ids, "--add-subgids", ids, name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	s := somebody{User: u, home: home, exe: filepath.Join(home, filepath.Base(os.Args[0]))}
	s.uid, _ = strconv.Atoi(u.Uid)
	s.gid, _ = strconv.Atoi(u.Gid)
	madeUsers.dirs = append(madeUsers.dirs, "/tmp/lighter-"+u.Uid)
	copyFile(t, s.exe, os.Args[0])
	if err := os.Chown(home, s.uid, s.gid); err != nil {
		t.Fatal(err)
	}
	return s
}

// admin runs a tool that locks /etc/passwd, as tests of other rooms may too.
func admin(t *testing.T, name string, args ...string) {
	t.Helper()
	for try := 0; ; try++ {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err == nil {
			return
		}
		if try == 20 {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// removeUsers ends with what tests left of users' accounts.
func removeUsers() error {
	madeUsers.Lock()
	defer madeUsers.Unlock()
	for _, dir := range madeUsers.dirs {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	for _, name := range madeUsers.names {
		if out, err := exec.Command("userdel", name).CombinedOutput(); err != nil {
			return fmt.Errorf("userdel %s: %w: %s", name, err, out)
		}
	}
	return nil
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// command is this test binary, run by the user in a fresh login.
func (s somebody) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.exe, args...)
	cmd.Dir = s.home
	cmd.Env = []string{"HOME=" + s.home, "PATH=" + os.Getenv("PATH"), "USER=" + s.Username, "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)},
		}
	}
	return cmd
}

// run runs a command to its end and wants the exit code.
func run(t *testing.T, cmd *exec.Cmd, want int) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("%v: exit code %d, want %d\n%s", cmd.Args, code, want, out.String())
	}
	return out.String()
}
