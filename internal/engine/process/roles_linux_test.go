package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside is what an engine finds in its namespace.
type inside struct {
	EUID, EGID int
	InUserns   bool
	HostUID    int
	Chown      string // error of giving files to ids 1, 1000 and 65535
	Overlay    string // error of an overlay mount
	Runtime    string // error of writing to XDG_RUNTIME_DIR
	Private    bool   // mounts reach nobody outside
	User       string
	State      string
	Caps       uint32
	Pending    bool // the go-on descriptor leaks into programs
}

// insideRole writes what it finds to a file: role-inside FILE.
func insideRole(args []string) int {
	var in inside
	in.EUID, in.EGID, in.InUserns, in.HostUID = os.Geteuid(), os.Getegid(), InUserNamespace(), hostUID()
	in.User = os.Getenv("USER")
	in.State, _ = StateDir("")
	text := func(err error) string {
		if err != nil {
			return err.Error()
		}
		return ""
	}
	dir, err := os.MkdirTemp(filepath.Dir(args[0]), "inside-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, id := range []int{1, 1000, 65535} {
		f := filepath.Join(dir, strconv.Itoa(id))
		err = errors.Join(err, os.WriteFile(f, nil, 0o600), os.Chown(f, id, id))
	}
	in.Chown = text(err)
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		os.Mkdir(filepath.Join(dir, d), 0o700)
	}
	merged := filepath.Join(dir, "merged")
	err = unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work,userxattr", dir))
	if err == nil {
		err = os.WriteFile(filepath.Join(merged, "mounted"), nil, 0o600)
	}
	in.Overlay = text(err)
	in.Runtime = text(os.WriteFile(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "lighter-test"), nil, 0o600))
	b, _ := os.ReadFile("/proc/self/mountinfo")
	in.Private = !strings.Contains(string(b), " shared:")
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	unix.Capget(&hdr, &data[0])
	in.Caps = data[0].Effective
	out, _ := exec.Command("ls", "-l", "/proc/self/fd/"+strconv.Itoa(goOnFD)).Output()
	in.Pending = strings.Contains(string(out), "pipe:")
	b, _ = json.Marshal(in)
	os.WriteFile(args[0]+".tmp", b, 0o600)
	os.Rename(args[0]+".tmp", args[0])
	return 0
}

// reexecRole is a command with an engine of its own, by an ordinary user.
// role-reexec code N | signals | inside FILE | read | die
func reexecRole(args []string) int {
	if NeedsUserNamespace() {
		code, err := ReexecInUserNamespace(os.Args[1:])
		if err != nil {
			fmt.Println(err)
			return 99
		}
		return code
	}
	switch args[0] {
	case "code":
		n, _ := strconv.Atoi(args[1])
		return n
	case "signals":
		sigs := make(chan os.Signal, 16)
		signal.Notify(sigs, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1)
		fmt.Println("ready", os.Getpid())
		for {
			sig := <-sigs
			fmt.Println(sig)
			if sig == unix.SIGTERM {
				return 42
			}
		}
	case "inside":
		return insideRole(args[1:])
	case "read":
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		dir, _ := os.Getwd()
		fmt.Printf("%s%s\n%s\n", line, dir, os.Getenv("KEPT"))
		fmt.Fprintln(os.Stderr, "to stderr")
	case "die":
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	return 0
}

// checkRole prints what Check finds.
func checkRole([]string) int {
	found := Check()
	for _, p := range found {
		fmt.Printf("%s: %s\n%s\n", p.Kind, p, p.Hint())
	}
	return len(found)
}

// noNewPrivsRole is checkRole where setuid programs do not work.
func noNewPrivsRole([]string) int {
	runtime.LockOSThread() // both calls are about the thread
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
		return 99
	}
	if err := unix.Exec(selfPath(), []string{os.Args[0], "role-check"}, os.Environ()); err != nil {
		fmt.Println(err)
	}
	return 99
}

// noCapRole is checkRole for root in an ordinary container.
func noCapRole([]string) int {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
		fmt.Println(err)
		return 99
	}
	if err := unix.Exec(selfPath(), []string{os.Args[0], "role-check"}, os.Environ()); err != nil {
		fmt.Println(err)
	}
	return 99
}

// limitRole is refused a namespace by the kernel: it may have no more of them.
func limitRole([]string) int {
	if NeedsUserNamespace() {
		code, err := ReexecInUserNamespace(os.Args[1:])
		if err != nil {
			fmt.Println(err)
		}
		return code
	}
	// The limit is per namespace, so this is for us and our descendants only.
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		fmt.Println(err)
		return 99
	}
	cmd := exec.Command(selfPath(), "role-check")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	err := cmd.Run()
	if !errors.Is(err, unix.ENOSPC) {
		fmt.Println("not refused:", err)
		return 99
	}
	err = thisHost().refused(err)
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Kind != UsernsDisabled {
		fmt.Println(err)
		return 99
	}
	fmt.Println(err)
	return 0
}

func stateDirRole([]string) int {
	dir, err := StateDir("")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(dir)
	return 0
}
