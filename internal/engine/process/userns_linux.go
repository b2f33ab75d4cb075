package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A process gets into the namespace in two steps, because a map of more than
// one id is written from outside (user_namespaces(7)), and because the first
// exec, done while the namespace has no map, drops all capabilities:
//
//	parent:  clone(NEWUSER|NEWNS) and exec itself, newuidmap, newgidmap, "go on"
//	child 1: Enter waits for "go on", execs itself: root by now, so with capabilities
//	child 2: Enter mounts what has to be, answers "ok" and lets main go on
//
// stageEnv says which of them a process is.
const (
	stageEnv   = "LIGHTER_USERNS"
	stageMap   = "map"
	stageMount = "mount"
	stageIn    = "in"
)

// What else a stage should do, behind a comma.
const (
	modeDetached = "detached" // lives on without the parent
	modeBound    = "bound"    // gets SIGTERM when the parent dies
	modeProbe    = "probe"    // exits 0 once it is in
)

// File descriptors of the child's ends: "go on" arrives at goOnFD, whose
// other end the parent of a bound child keeps open for as long as it lives;
// the answer leaves by answerFD.
const (
	goOnFD   = 3
	answerFD = 4
)

// answerOK is what child 2 answers; anything else is an error's text.
const answerOK = "ok"

// Enter must be the first call of main: it is where a process that was
// executed to live in a user namespace gets there. Everywhere else it returns
// at once.
func Enter() {
	stage, mode, _ := strings.Cut(os.Getenv(stageEnv), ",")
	switch stage {
	case stageMap:
		enterMapped(mode)
	case stageMount:
		enterMounts(mode)
	}
}

// enterMapped is child 1. It returns never.
func enterMapped(mode string) {
	if n, err := unix.Read(goOnFD, make([]byte, 1)); n != 1 || err != nil {
		os.Exit(1) // the parent died or gave up, and told the user why
	}
	os.Setenv(stageEnv, stageMount+","+mode)
	err := unix.Exec(selfPath(), os.Args, os.Environ())
	answer(fmt.Sprintf("execute %s: %v", selfPath(), err))
	os.Exit(1)
}

// enterMounts is child 2.
func enterMounts(mode string) {
	// Mounts of the host go on arriving here; ours reach nobody else. Linux
	// sees to that by itself for a namespace of another user; what the call
	// adds is a refusal here, with a name, where mounting is not allowed.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		answer(fmt.Sprintf("make / rslave: %v", err))
		os.Exit(1)
	}
	os.Setenv(stageEnv, stageIn)
	unix.CloseOnExec(goOnFD)
	answer(answerOK)
	switch mode {
	case modeProbe:
		os.Exit(0)
	case modeBound:
		// Not PR_SET_PDEATHSIG: that ends with either side's thread, and
		// Go decides about threads.
		go func() {
			_, _ = unix.Read(goOnFD, make([]byte, 1))
			_ = unix.Kill(os.Getpid(), unix.SIGTERM)
		}()
	default:
		unix.Close(goOnFD)
	}
}

func answer(text string) {
	_, _ = unix.Write(answerFD, []byte(text))
	unix.Close(answerFD)
}

// InUserNamespace reports whether this process is root only in the namespace
// that lighter made for it. BuildKit's workers have to be told (Rootless).
func InUserNamespace() bool {
	return os.Getenv(stageEnv) == stageIn && os.Geteuid() == 0 && outerRoot() != 0
}

// NeedsUserNamespace reports whether an engine cannot run in this process but
// for ReexecInUserNamespace. Connect sees to it by itself.
func NeedsUserNamespace() bool { return os.Geteuid() != 0 }

// hostUID is the user's id outside of our namespace.
func hostUID() int {
	if InUserNamespace() {
		return outerRoot()
	}
	return os.Geteuid()
}

// outerRoot returns which id of the parent namespace root is here.
func outerRoot() int {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var inside, outside, count int
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && inside == 0 {
			return outside
		}
	}
	return 0
}

// startInNamespace starts cmd, which must execute this program, and returns
// when it is in its namespaces. The returned file ties a bound child to us.
// Errors are *Problem where the host refuses, *exec.ExitError where the child
// was killed on the way.
func startInNamespace(cmd *exec.Cmd, mode string) (tie *os.File, err error) {
	if stage, _, _ := strings.Cut(os.Getenv(stageEnv), ","); stage == stageMap || stage == stageMount {
		return nil, errors.New("process.Enter was not the first call of main")
	}
	h := thisHost()
	maps, err := h.idMaps()
	if err != nil {
		return nil, err
	}
	env, err := namespaceEnv(maps.login)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Environ(), append(env, stageEnv+"="+stageMap+","+mode)...)

	goOnR, goOn, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	answers, answersW, err := os.Pipe()
	if err != nil {
		goOnR.Close()
		goOn.Close()
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer answers.Close()
	defer func() {
		if err != nil {
			goOn.Close()
		}
	}()
	cmd.ExtraFiles = []*os.File{goOnR, answersW}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER | unix.CLONE_NEWNS
	err = cmd.Start()
	goOnR.Close()
	answersW.Close()
	if err != nil {
		return nil, h.refused(err)
	}
	if err = maps.write(cmd.Process.Pid); err == nil {
		if _, err = goOn.Write([]byte{1}); err == nil {
			err = readAnswer(h, answers)
		}
	}
	if err == nil {
		return goOn, nil
	}
	// A child that died by itself tells more than the pipe it left behind.
	var p *Problem
	if !errors.As(err, &p) {
		goOn.Close()
	} else {
		cmd.Process.Kill()
	}
	if werr := cmd.Wait(); p == nil && killedBy(werr) != 0 {
		return nil, werr
	}
	return nil, err
}

// readAnswer waits for child 2.
func readAnswer(h host, answers io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(answers, 4096))
	switch {
	case err != nil:
		return fmt.Errorf("enter the user namespace: %w", err)
	case string(b) == answerOK:
		return nil
	case len(b) == 0:
		return errors.New("enter the user namespace: the process ended on the way")
	}
	return h.refused(errors.New(string(b)))
}

// namespaceEnv is what runc needs to hear: a writable XDG_RUNTIME_DIR, and a
// USER other than root, or it ignores that directory.
func namespaceEnv(login string) ([]string, error) {
	dir, err := runtimeDir()
	if err != nil {
		return nil, err
	}
	env := []string{"XDG_RUNTIME_DIR=" + dir}
	if u := os.Getenv("USER"); u == "" || u == "root" {
		env = append(env, "USER="+login)
	}
	return env, nil
}

// idMaps is how ids inside our namespace correspond to those outside.
type idMaps struct {
	login                string
	newuidmap, newgidmap string // paths
	uids, gids           []string
}

// idMaps finds out what this user may map, or returns a *Problem.
func (h host) idMaps() (idMaps, error) {
	m := idMaps{login: strconv.Itoa(os.Geteuid())}
	u, err := user.LookupId(m.login)
	if err != nil {
		return m, &Problem{
			Kind: NoAccount,
			Text: fmt.Sprintf("uid %d has no account, so it can have no subordinate ids: %v", os.Geteuid(), err),
			Fix:  "run lighter as a user of /etc/passwd, or as root",
		}
	}
	m.login = u.Username
	if m.newuidmap, err = exec.LookPath("newuidmap"); err != nil {
		return m, noUidmap("newuidmap is not installed")
	}
	if m.newgidmap, err = exec.LookPath("newgidmap"); err != nil {
		return m, noUidmap("newgidmap is not installed")
	}
	subuid, subgid := h.read("/etc/subuid"), h.read("/etc/subgid")
	uids := parseSubordinate(subuid, m.login, os.Geteuid(), os.Geteuid())
	gids := parseSubordinate(subgid, m.login, os.Geteuid(), os.Getegid())
	if len(uids) == 0 || len(gids) == 0 {
		return m, noSubordinate(m.login, len(uids) == 0, len(gids) == 0, freeSubordinate(subuid, subgid))
	}
	m.uids, m.gids = mapArgs(os.Geteuid(), uids), mapArgs(os.Getegid(), gids)
	return m, nil
}

// write maps the namespace of the process.
func (m idMaps) write(pid int) error {
	for _, c := range []*exec.Cmd{
		exec.Command(m.newuidmap, append([]string{strconv.Itoa(pid)}, m.uids...)...),
		exec.Command(m.newgidmap, append([]string{strconv.Itoa(pid)}, m.gids...)...),
	} {
		// Quiet where it works; one line of its complaint where it does not.
		out, err := c.CombinedOutput()
		if err != nil {
			return mappingRefused(c.Path, strings.Join(strings.Fields(string(out)), " "), err)
		}
	}
	return nil
}
