package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// host is the machine as far as namespaces go. root is "" but in tests, which
// show other machines' /etc and /proc/sys below it.
type host struct {
	root string
	exe  string // our executable, as an AppArmor profile names it
}

func thisHost() host {
	exe, err := os.Executable()
	if err != nil {
		exe = "/usr/local/bin/lighter"
	}
	return host{exe: exe}
}

// read returns a file, or nothing where there is none.
func (h host) read(path string) []byte {
	b, err := os.ReadFile(filepath.Join(h.root, path))
	if err != nil {
		return nil
	}
	return b
}

// sysctl returns a setting, "" where the kernel has none of that name.
func (h host) sysctl(name string) string {
	return strings.TrimSpace(string(h.read("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))))
}

// Check lists what keeps an engine from running on this machine for this user;
// empty means that one would run. It may start a process for a moment.
func Check() []*Problem {
	if !NeedsUserNamespace() {
		return checkRoot()
	}
	h := thisHost()
	var found []*Problem
	_, err := h.idMaps()
	if p := (*Problem)(nil); errors.As(err, &p) {
		found = append(found, p)
	}
	if p := h.disabled(); p != nil {
		found = append(found, p)
	}
	if len(found) > 0 {
		return found
	}
	// Nothing to be seen: try it.
	cmd := exec.Command(selfPath())
	tie, err := startInNamespace(cmd, modeProbe)
	if err == nil {
		tie.Close()
		err = cmd.Wait()
	}
	if err == nil {
		return nil
	}
	p := (*Problem)(nil)
	if !errors.As(err, &p) {
		p = &Problem{Kind: UsernsDisabled, Text: fmt.Sprintf("a user namespace cannot be entered: %v", err), Fix: "run lighter as root"}
	}
	return []*Problem{p}
}

// checkRoot finds the root that is none: a container's.
func checkRoot() []*Problem {
	if InUserNamespace() {
		return nil
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return nil
	}
	return []*Problem{{
		Kind: NoCapability,
		Text: "root here may not mount: the capability CAP_SYS_ADMIN is missing",
		Fix:  "run this container with --privileged, or use --engine=ADDRESS of a BuildKit",
	}}
}

// disabled returns the setting that turns user namespaces off for users.
func (h host) disabled() *Problem {
	for _, s := range []struct{ name, on string }{
		{"kernel.unprivileged_userns_clone", "1"}, // Debian and Arch
		{"user.max_user_namespaces", "28633"},     // RHEL 7 has 0; the number is Red Hat's advice
		{"user.max_mnt_namespaces", "28633"},
	} {
		if h.sysctl(s.name) == "0" {
			set := s.name + "=" + s.on
			return &Problem{
				Kind: UsernsDisabled,
				Text: "user namespaces are turned off: " + s.name + " is 0",
				Fix:  "echo " + set + " | sudo tee /etc/sysctl.d/60-lighter.conf && sudo sysctl -w " + set,
			}
		}
	}
	return nil
}

// refused explains why a namespace could not be made or used.
func (h host) refused(cause error) error {
	if p := h.disabled(); p != nil {
		return p
	}
	if h.sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1" {
		return &Problem{
			Kind: AppArmor,
			Text: fmt.Sprintf("AppArmor refuses user namespaces to %s (%v)", h.exe, cause),
			Fix:  h.appArmorFix(),
		}
	}
	if errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EUSERS) {
		return &Problem{
			Kind: UsernsLimit,
			Text: fmt.Sprintf("no more user namespaces: the limit is reached (%v)", cause),
			Fix:  "sudo sysctl -w user.max_user_namespaces=28633 user.max_mnt_namespaces=28633",
		}
	}
	return &Problem{
		Kind: UsernsDisabled,
		Text: fmt.Sprintf("user namespaces are refused: %v", cause),
		Fix:  "run lighter as root; in a container, run that with --privileged or --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
	}
}

// appArmorFix is a profile that allows user namespaces and nothing else that
// was not allowed before, and the command to load it. Ubuntu's own profiles
// for such programs look like this (/etc/apparmor.d/podman).
func (h host) appArmorFix() string {
	return `write this profile and load it (once, as root):

sudo tee /etc/apparmor.d/lighter >/dev/null <<'EOF'
abi <abi/4.0>,
include <tunables/global>

profile lighter "` + h.exe + `" flags=(unconfined) {
  userns,

  include if exists <local/lighter>
}
EOF
sudo apparmor_parser -r /etc/apparmor.d/lighter`
}

func noUidmap(text string) *Problem {
	return &Problem{Kind: NoUidmap, Text: text, Fix: "install uidmap (Debian/Ubuntu: apt install uidmap)"}
}

// noSubordinate names the exact command; free is the first id that it may use.
func noSubordinate(login string, uids, gids bool, free uint64) *Problem {
	var files, flags []string
	ids := fmt.Sprintf("%d-%d", free, free+65535)
	if uids {
		files, flags = append(files, "/etc/subuid"), append(flags, "--add-subuids "+ids)
	}
	if gids {
		files, flags = append(files, "/etc/subgid"), append(flags, "--add-subgids "+ids)
	}
	return &Problem{
		Kind: NoSubordinate,
		Text: fmt.Sprintf("%s has no line in %s", login, strings.Join(files, " and ")),
		Fix:  "sudo usermod " + strings.Join(flags, " ") + " " + login,
	}
}

// mappingRefused explains a newuidmap or newgidmap that failed.
func mappingRefused(path, said string, err error) *Problem {
	if said == "" {
		said = err.Error()
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && on == 1 {
		return &Problem{
			Kind: NoNewPrivs,
			Text: fmt.Sprintf("%s cannot work: this process may gain no privileges (no_new_privs): %s", path, said),
			Fix:  "drop NoNewPrivileges= or --security-opt no-new-privileges, or run lighter as root",
		}
	}
	if !privileged(path) {
		p := noUidmap(path + " is neither setuid root nor has the capability it needs: " + said)
		p.Fix = "sudo chmod u+s " + path + ", or install uidmap again"
		return p
	}
	return &Problem{
		Kind: MappingRefused,
		Text: fmt.Sprintf("%s: %s", path, said),
		Fix:  "check /etc/subuid and /etc/subgid, and that " + path + " is not on a nosuid mount",
	}
}

// privileged reports whether a program is setuid or has file capabilities.
func privileged(path string) bool {
	fi, err := os.Stat(path)
	if err != nil {
		return false
	}
	n, err := unix.Getxattr(path, "security.capability", nil)
	return fi.Mode()&os.ModeSetuid != 0 || (err == nil && n > 0)
}
