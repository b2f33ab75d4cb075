package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func (in inside) check(t *testing.T, s somebody) {
	t.Helper()
	if in.EUID != 0 || in.EGID != 0 || !in.InUserns || in.HostUID != s.uid {
		t.Errorf("ids: %+v; want root inside, %d outside", in, s.uid)
	}
	if in.Chown != "" || in.Overlay != "" || in.Runtime != "" || !in.Private {
		t.Errorf("what runc and snapshots need: %+v", in)
	}
	if in.Caps&(1<<unix.CAP_SYS_ADMIN) == 0 || in.Caps&(1<<unix.CAP_CHOWN) == 0 {
		t.Errorf("capabilities %x", in.Caps)
	}
	if in.User != s.Username {
		t.Errorf("USER=%q, want %q", in.User, s.Username)
	}
	if want := filepath.Join(s.home, ".local/state/lighter"); in.State != want {
		t.Errorf("state directory %s inside, %s outside", in.State, want)
	}
	if in.Pending {
		t.Error("the go-on descriptor leaks into programs")
	}
}

func readInside(t *testing.T, path string) inside {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var in inside
	if err := json.Unmarshal(b, &in); err != nil {
		t.Fatal(err)
	}
	return in
}

// An ordinary user's commands start an engine in a namespace, share it, kill
// it, and find it again.
func TestRootlessEngine(t *testing.T) {
	s := rootlessUser(t)
	state := strings.TrimSpace(run(t, s.command("role-statedir"), 0))
	defer func() { run(t, s.command("role-stop", state), 0) }()
	run(t, s.command("role-client", state, "-inside"), 0)
	readInside(t, filepath.Join(state, "inside")).check(t, s)
	run(t, s.command("role-client", state, "-inside"), 0)
	if n := starts(state); n != 1 {
		t.Errorf("%d engines, want 1", n)
	}
	info := rootlessStatus(t, state)
	kill(t, info.PID)
	run(t, s.command("role-client", state), 0)
	run(t, s.command("role-stop", state), 0)
	if _, err := os.Lstat(info.Socket); !os.IsNotExist(err) {
		t.Errorf("after stop: %v", err)
	}
}

// rootlessStatus is Status for a state directory of somebody else.
func rootlessStatus(t *testing.T, state string) Info {
	t.Helper()
	info, err := Status(state)
	if err != nil || !info.Running || info.PID == 0 {
		t.Fatalf("status %+v, %v", info, err)
	}
	if uid, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", info.PID)); err != nil || !strings.Contains(string(uid), "65536") {
		t.Errorf("engine's uid map: %q, %v", uid, err)
	}
	return info
}

func TestReexec(t *testing.T) {
	s := rootlessUser(t)
	run(t, s.command("role-reexec", "code", "0"), 0)
	run(t, s.command("role-reexec", "code", "7"), 7)
	run(t, s.command("role-reexec", "die"), 128+9)

	cmd := s.command("role-reexec", "read")
	cmd.Stdin = strings.NewReader("from stdin\n")
	cmd.Env = append(cmd.Env, "KEPT=environment")
	want := "from stdin\n" + s.home + "\nenvironment\nto stderr\n"
	if got := run(t, cmd, 0); got != want {
		t.Errorf("output %q, want %q", got, want)
	}

	file := filepath.Join(s.home, "inside")
	run(t, s.command("role-reexec", "inside", file), 0)
	readInside(t, file).check(t, s)
}

// startSignals runs `role-reexec signals` and returns the inner pid.
func startSignals(t *testing.T, s somebody) (*exec.Cmd, *bufio.Reader, int) {
	t.Helper()
	cmd := s.command("role-reexec", "signals")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscanf(line, "ready %d\n", &pid); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return cmd, r, pid
}

func TestReexecPassesSignals(t *testing.T) {
	cmd, out, _ := startSignals(t, rootlessUser(t))
	for sig, name := range map[unix.Signal]string{unix.SIGINT: "interrupt", unix.SIGUSR1: "user defined signal 1"} {
		cmd.Process.Signal(sig)
		if line, err := out.ReadString('\n'); err != nil || line != name+"\n" {
			t.Errorf("after %v: %q, %v", sig, line, err)
		}
	}
	cmd.Process.Signal(unix.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 42 {
		t.Errorf("exit code %d, want 42", code)
	}
}

// A terminal signals the whole group: one Ctrl-C must not arrive as two.
func TestReexecOnTerminal(t *testing.T) {
	master, slave := openTerminal(t)
	cmd := rootlessUser(t).command("role-reexec", "signals")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(master)
	expect := func(want string) {
		t.Helper()
		line, err := out.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%q, %v; want %q", line, err, want)
		}
	}
	expect("ready")
	for range 20 { // two signals at a time may become one in the kernel
		master.Write([]byte{3}) // Ctrl-C
		expect("interrupt")
		time.Sleep(5 * time.Millisecond) // for a second one to come through
	}
	cmd.Process.Signal(unix.SIGUSR1)
	expect("user defined signal 1")
	cmd.Process.Signal(unix.SIGTERM)
	expect("terminated")
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 42 {
		t.Errorf("exit code %d, want 42", code)
	}
}

// openTerminal returns both ends of a pseudoterminal that does not echo.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	tio, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	tio.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, tio); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// kill -9 of the outer process must not leave the inner one with the state.
func TestReexecEndsWithParent(t *testing.T) {
	cmd, out, pid := startSignals(t, rootlessUser(t))
	cmd.Process.Kill()
	if line, err := out.ReadString('\n'); err != nil || line != "terminated\n" {
		t.Errorf("the inner process got %q, %v", line, err)
	}
	cmd.Wait()
	eventually(t, "inner process gone", func() bool {
		st := statOf(pid)
		return st.ticks == 0 || st.ended()
	})
}

// What can be wrong with a host, had for real.
func TestCheck(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		s := rootlessUser(t)
		if out := run(t, s.command("role-check"), 0); out != "" {
			t.Error(out)
		}
	})
	t.Run("no newuidmap", func(t *testing.T) {
		cmd := rootlessUser(t).command("role-check")
		cmd.Env = append(cmd.Env, "PATH=/nowhere")
		wantProblem(t, run(t, cmd, 1), NoUidmap, "apt install uidmap")
	})
	t.Run("newuidmap without privilege", func(t *testing.T) {
		s := newUser(t, true)
		copyFile(t, filepath.Join(s.home, "newuidmap"), "/usr/bin/newuidmap")
		cmd := s.command("role-check")
		cmd.Env = append(cmd.Env, "PATH="+s.home+":"+os.Getenv("PATH"))
		wantProblem(t, run(t, cmd, 1), NoUidmap, "sudo chmod u+s "+s.home+"/newuidmap")
	})
	t.Run("no subordinate ids", func(t *testing.T) {
		s := newUser(t, false)
		out := run(t, s.command("role-check"), 1)
		wantProblem(t, out, NoSubordinate, s.Username)
		_, hint, _ := strings.Cut(strings.TrimSpace(out), "\n")
		// The command is exact: it works as printed.
		fields := strings.Fields(strings.TrimPrefix(hint, "sudo "))
		admin(t, fields[0], fields[1:]...)
		run(t, s.command("role-check"), 0)
		run(t, s.command("role-reexec", "code", "0"), 0)
	})
	t.Run("no account", func(t *testing.T) {
		s := newUser(t, false)
		s.uid = 61234
		os.Chmod(s.home, 0o755)
		wantProblem(t, run(t, s.command("role-check"), 1), NoAccount, "/etc/passwd")
	})
	t.Run("no new privileges", func(t *testing.T) {
		s := rootlessUser(t)
		wantProblem(t, run(t, s.command("role-nonew"), 1), NoNewPrivs, "no-new-privileges")
	})
	t.Run("root without capabilities", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("for root")
		}
		run(t, exec.Command(os.Args[0], "role-check"), 0)
		wantProblem(t, run(t, exec.Command(os.Args[0], "role-nocap"), 1), NoCapability, "--privileged")
	})
	t.Run("limit", func(t *testing.T) {
		s := rootlessUser(t)
		if out := run(t, s.command("role-limit"), 0); !strings.Contains(out, "user.max_user_namespaces is 0") {
			t.Error(out)
		}
	})
}

// The error of a command is the problem, with its hint.
func TestConnectNamesProblem(t *testing.T) {
	s := newUser(t, false)
	state := strings.TrimSpace(run(t, s.command("role-statedir"), 0))
	start := time.Now()
	out := run(t, s.command("role-client", state), 1)
	if !strings.Contains(out, s.Username+" has no line in /etc/subuid and /etc/subgid\nsudo usermod --add-subuids ") {
		t.Error(out)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %s", d)
	}
}

func wantProblem(t *testing.T, out string, kind ProblemKind, part string) {
	t.Helper()
	if !strings.HasPrefix(out, string(kind)+": ") || !strings.Contains(out, part) {
		t.Errorf("want problem %s with %q, got\n%s", kind, part, out)
	}
}

// Other machines' kernels, by what their /proc/sys says.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		sysctl map[string]string
		cause  error
		want   ProblemKind
		hint   string
	}{
		{"Debian 10", map[string]string{"kernel/unprivileged_userns_clone": "0"}, unix.EPERM, UsernsDisabled, "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"RHEL 7", map[string]string{"user/max_user_namespaces": "0"}, unix.EINVAL, UsernsDisabled, "sysctl -w user.max_user_namespaces=28633"},
		{"Ubuntu 24.04", map[string]string{"kernel/unprivileged_userns_clone": "1", "kernel/apparmor_restrict_unprivileged_userns": "1"}, unix.EACCES, AppArmor, "profile lighter \"/opt/my tools/lighter\" flags=(unconfined) {\n  userns,"},
		{"Ubuntu 24.04 that allows it", map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "0"}, unix.ENOSPC, UsernsLimit, "max_user_namespaces"},
		{"a container", nil, unix.EPERM, UsernsDisabled, "--security-opt seccomp=unconfined"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host{root: t.TempDir(), exe: "/opt/my tools/lighter"}
			for name, v := range c.sysctl {
				path := filepath.Join(h.root, "proc/sys", name)
				os.MkdirAll(filepath.Dir(path), 0o755)
				os.WriteFile(path, []byte(v+"\n"), 0o644)
			}
			p, ok := errors.AsType[*Problem](h.refused(fmt.Errorf("fork/exec: %w", c.cause)))
			if !ok || p.Kind != c.want || !strings.Contains(p.Hint(), c.hint) {
				t.Errorf("%+v", p)
			}
			if strings.Contains(p.Error(), "\n") {
				t.Errorf("error of several lines: %s", p)
			}
		})
	}
}
