package group

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// below is all that came of a keeper's command: every process that has the keeper
// above it. Those whose parent ended have the keeper for one.
type below struct {
	spare    func(args []string) bool
	programs []os.FileInfo
	none     chan struct{} // closed when the kernel says that there is nobody
}

// proc is a process: its number, and when it started, which no other of that number
// has in common with it.
type proc struct {
	pid, parent int
	start       string // clock ticks from boot
}

// programs is the file that a process executes.
func programs(pid string) []os.FileInfo {
	if info, err := os.Stat("/proc/" + pid + "/exe"); err == nil {
		return []os.FileInfo{info}
	}
	return nil
}

// reap takes in those that have ended, and tells how the command did.
func (b *below) reap(command int, ended chan<- syscall.WaitStatus) {
	defer close(b.none)
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return
		case pid == command:
			ended <- status
		}
	}
}

// quiet is how many looks have to find nobody where somebody is spared: one may miss who
// was started behind it.
const quiet = 5

// kill ends all, and returns when nobody is left. It looks again until then: those
// that it sees may be starting others. The kernel says when there is nobody, but where
// somebody is spared; then so many looks have to, each without a parent gone that was
// there in the look before.
func (b *below) kill() {
	var gone map[int]bool
	empty := 0
	for began := time.Now(); time.Since(began) < stuck; time.Sleep(time.Millisecond) {
		select {
		case <-b.none:
			return
		default:
		}
		now := b.look()
		for _, p := range now.all {
			p.kill()
		}
		if empty++; len(now.all) > 0 || !now.spared || !subset(now.gone, gone) {
			empty = 0
		}
		if empty == quiet {
			return
		}
		gone = now.gone
	}
}

func subset(some, of map[int]bool) bool {
	for n := range some {
		if !of[n] {
			return false
		}
	}
	return true
}

// kill ends the process, and no other that has its number by now: a handle is had
// before it is asked whose the number is.
func (p proc) kill() {
	handle, err := unix.PidfdOpen(p.pid, 0)
	if err == nil {
		defer unix.Close(handle)
	}
	now, ok := statOf(p.pid)
	switch {
	case !ok || now.start != p.start:
	case err == nil:
		_ = unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0)
	case err == unix.ENOSYS: // before Linux 5.3
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
}

// look is what one look at all processes sees.
type look struct {
	all    []proc
	spared bool         // somebody is
	gone   map[int]bool // parents: those that ended meanwhile, and what /proc hides
}

func (b *below) look() (now look) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return now
	}
	children, there := map[int][]proc{}, map[int]bool{0: true}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := statOf(pid); ok {
			children[p.parent] = append(children[p.parent], p)
			there[pid] = true
		}
	}
	now.gone = map[int]bool{}
	for parent := range children {
		if !there[parent] {
			now.gone[parent] = true
		}
	}
	todo := slices.Clone(children[os.Getpid()])
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		if b.spared(p.pid) {
			now.spared = true
			continue
		}
		now.all = append(now.all, p)
		todo = append(todo, children[p.pid]...)
	}
	return now
}

// spared tells whether a process is of this program and one that stays. Its arguments
// alone say nothing: anybody may call themselves so.
func (b *below) spared(pid int) bool {
	if b.spare == nil {
		return false
	}
	dir := "/proc/" + strconv.Itoa(pid)
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil || !b.spare(strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")) {
		return false
	}
	exe, err := os.Stat(dir + "/exe")
	return err == nil && slices.ContainsFunc(b.programs, func(own os.FileInfo) bool { return os.SameFile(own, exe) })
}

// statOf reads /proc/PID/stat: PID (COMMAND) STATE PPID …, the start is the 22nd field;
// the command may hold anything.
func statOf(pid int) (proc, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return proc{}, false
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 20 {
		return proc{}, false
	}
	parent, err := strconv.Atoi(f[1])
	return proc{pid, parent, f[19]}, err == nil
}
