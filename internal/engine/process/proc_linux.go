package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// procStat is what is needed of /proc/PID/stat; see proc_pid_stat(5).
type procStat struct {
	state byte   // field 3
	ticks uint64 // field 22: clock ticks from boot to its start; 0 is no process
}

// ended is true of zombies, and of processes whose first thread is one.
func (s procStat) ended() bool { return s.state == 'Z' || s.state == 'X' }

func statOf(pid int) procStat {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}
	}
	return parseStat(b)
}

// parseStat skips to the last ")" first: the second field is the program's
// name and may hold anything.
func parseStat(stat []byte) procStat {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return procStat{}
	}
	fields := bytes.Fields(stat[i+1:]) // from field 3 on
	if len(fields) < 20 {
		return procStat{}
	}
	n, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return procStat{}
	}
	return procStat{state: fields[0][0], ticks: n}
}

// residentBytes returns the resident set of a process in bytes, 0 if unknown.
func residentBytes(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// selfPath returns what to execute to get this program again. /proc/self/exe
// is right even after an upgrade has replaced the file, but shows in ps as
// "exe"; so it is used only where the name no longer leads to the same file.
func selfPath() string {
	const exe = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return exe
	}
	a, errA := os.Stat(path)
	b, errB := os.Stat(exe)
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		return exe
	}
	return path
}
