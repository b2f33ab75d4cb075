package tune

import (
	"time"

	"golang.org/x/sys/windows"
)

// cpuTime is what the process has spent on all cores so far.
func cpuTime() time.Duration {
	var created, exited, kernel, user windows.Filetime
	if windows.GetProcessTimes(windows.CurrentProcess(), &created, &exited, &kernel, &user) != nil {
		return 0
	}
	return spent(kernel) + spent(user)
}

// spent is a duration in hundreds of nanoseconds, which Filetime.Nanoseconds
// would take for a date.
func spent(t windows.Filetime) time.Duration {
	return time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime)) * 100
}
