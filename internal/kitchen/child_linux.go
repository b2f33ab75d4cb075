package kitchen

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ownSession: a Ctrl-C for the server is none for its builds, and all that a
// build starts can be found by it.
func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

func interrupt(pid int) { _ = syscall.Kill(-pid, syscall.SIGINT) }

// killAll kills what is in a session, or has mark in its environment: that is
// inherited by whoever leaves group, session and parent behind. The engine, which
// is everybody's, has neither. It looks again until nothing is left, for what was
// just being started.
func killAll(session int, mark string) {
	for range 50 {
		pids := members(session, mark)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// members lists processes that are alive.
func members(session int, mark string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := os.Getpid()
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self || pid == 1 {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// PID (COMMAND) STATE PPID PGRP SESSION …; the command may hold anything.
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) < 4 || f[0] == "Z" || f[0] == "X" {
			continue
		}
		if f[3] == strconv.Itoa(session) {
			pids = append(pids, pid)
			continue
		}
		environ, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && slices.Contains(strings.Split(string(environ), "\x00"), mark) {
			pids = append(pids, pid)
		}
	}
	return pids
}
