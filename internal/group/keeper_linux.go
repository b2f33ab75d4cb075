package group

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// selfExe is this program, even where an upgrade has replaced its file.
const selfExe = "/proc/self/exe"

// A keeper is called as lighter keepFlag LASTWORDS WHOSE PATH ARGV0 [ARG…]: a flag that no
// other main knows, so that one that does not Enter fails and does nothing.
const (
	keepFlag  = "--keep-what-is-below"
	wordFD    = 3 // from which it hears what to do; where that ends, its starter has died
	newsFD    = 4 // to which it says a line when the command has started, or why not, and one when that has ended
	wordKill  = 'k'
	wordLeave = 'l'

	ours    = "ours" // the command is of this program
	notOurs = "not-ours"

	newsStarted = "started"
	newsEnded   = "ended"
)

// stuck is how long is waited for those that were killed and do not end: the kernel
// has them, as where a file server is gone.
const stuck = 10 * time.Second

// Enter is one of the first calls of main: in a keeper it never returns. What spare
// says of a process of this same program, by its arguments, stays with all that is
// below it: it is everybody's, whoever started it. nil spares nobody.
func Enter(spare func(args []string) bool) {
	if len(os.Args) < 6 || os.Args[1] != keepFlag {
		return
	}
	lastWords, err := time.ParseDuration(os.Args[2])
	if err != nil {
		return
	}
	os.Exit(keep(lastWords, os.Args[3] == ours, os.Args[4], os.Args[5:], spare))
}

// keep runs a command, and answers with its exit code.
func keep(lastWords time.Duration, own bool, path string, argv []string, spare func([]string) bool) int {
	runtime.LockOSThread() // with its thread's end the kernel would end the command
	syscall.CloseOnExec(wordFD)
	syscall.CloseOnExec(newsFD)
	news := os.NewFile(newsFD, "news")
	// What is sent to the group is for the command.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	_ = os.WriteFile("/proc/self/comm", []byte("lighter-keeper"), 0) // for ps, which would say exe
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	pid := 0
	if err == nil {
		pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
			Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
		})
	}
	if err != nil {
		no, _ := err.(syscall.Errno) //nolint:errorlint // as both make it
		fmt.Fprintln(news, int(no))
		return 127
	}
	b := &below{spare: spare, programs: programs("self"), none: make(chan struct{})}
	if own {
		b.programs = append(b.programs, programs(strconv.Itoa(pid))...)
	}
	letGo()
	fmt.Fprintln(news, newsStarted)

	ended, words := make(chan syscall.WaitStatus, 1), make(chan byte, 2)
	go b.reap(pid, ended)
	go listen(words)
	var status syscall.WaitStatus
	select {
	case status = <-ended:
		if status.Signaled() { // it left nothing on purpose
			b.kill()
		}
		fmt.Fprintln(news, newsEnded)
		if <-words != wordLeave {
			b.kill()
		}
	case word := <-words:
		if word != wordKill { // nobody is there any more
			select {
			case status = <-ended:
				ended <- status
			case <-time.After(lastWords):
			}
		}
		b.kill()
		select {
		case status = <-ended:
		case <-time.After(stuck):
		}
	}
	return mirror(status)
}

// letGo: whoever reads what the command prints waits for the command alone.
func letGo() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	for fd := range 3 {
		_ = unix.Dup3(int(null.Fd()), fd, 0)
	}
}

// listen passes on what the starter says; its end is a word, too.
func listen(words chan<- byte) {
	word := os.NewFile(wordFD, "word")
	for {
		b := make([]byte, 1)
		if n, _ := word.Read(b); n == 0 {
			words <- 0
			return
		}
		words <- b[0]
	}
}

// mirror ends as the command ended, where a signal did that and Go lets one.
func mirror(status syscall.WaitStatus) int {
	if !status.Signaled() {
		return status.ExitStatus()
	}
	switch sig := status.Signal(); sig {
	case syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP:
		signal.Reset(sig)
		_ = syscall.Kill(os.Getpid(), sig)
		time.Sleep(time.Second) // it is on its way
	}
	return 128 + int(status.Signal())
}
