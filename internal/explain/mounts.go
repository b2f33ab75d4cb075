package explain

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lighter-oci/lighter/internal/engine"
	"github.com/lighter-oci/lighter/internal/report"
)

// cacheMounts finds package managers that download everything again whenever
// their step runs.
func (g *graph) cacheMounts() []report.Finding {
	var list []report.Finding
	said := map[int]bool{}
	for _, n := range g.order {
		in := g.instruction(n)
		if in.Word != "RUN" || in.Offline || n.at < 0 || said[in.Line] || !g.counts(n) {
			continue
		}
		said[in.Line] = true
		around := g.surroundings(n)
		var bare []*manager
		for _, words := range commands(in.Script) {
			m := managerOf(words)
			if m == nil || slices.Contains(bare, m) || slices.Contains(m.caches(around), "") {
				continue
			}
			if m.mounted(in, around) {
				if f, ok := g.unlocked(m, in, around); ok {
					list = append(list, f)
				}
				continue
			}
			bare = append(bare, m)
		}
		if len(bare) > 0 {
			list = append(list, g.withoutMount(bare, n, around))
		}
	}
	return list
}

// counts tells whether a step is worth a finding: all are where the user asked,
// else those that took their time in this build.
func (g *graph) counts(n *node) bool {
	return g.All || n.missed() && n.step.Took >= slowStep
}

// mounted tells whether a RUN has a cache for the manager. A cache that is no
// known manager's may be this one's.
func (m *manager) mounted(in engine.Instruction, around surroundings) bool {
	for _, mount := range in.Mounts {
		if mount.Type != "cache" && mount.Type != "tmpfs" && mount.Type != "bind" {
			continue
		}
		if m.mine(mount, m.caches(around)) {
			return true
		}
		others := slices.ContainsFunc(managers, func(o manager) bool { return o.mine(mount, o.caches(around)) })
		if mount.Type == "cache" && !others {
			return true
		}
	}
	return false
}

func (g *graph) withoutMount(bare []*manager, n *node, around surroundings) report.Finding {
	in := g.instruction(n)
	var names, mounts, notes []string
	first := in.First
	for _, m := range bare {
		names = append(names, m.name)
		for _, dir := range m.caches(around) {
			mount := "--mount=type=cache,target=" + dir
			if m.locked {
				mount += ",sharing=locked"
			} else if around.uid != "" {
				mount += ",uid=" + around.uid
			}
			mounts = append(mounts, mount)
		}
		for _, off := range m.off {
			first = strings.ReplaceAll(first, off.old, off.by)
			if word := strings.Trim(off.old, " &;"); strings.Contains(in.Script, word) && !saidIn(notes, word) {
				notes = append(notes, "without "+word)
			}
		}
		if m.note != "" && !(m.name == "apt" && g.keepsDownloads(n)) {
			notes = append(notes, m.note)
		}
	}
	if around.uid == "1000" {
		notes = append(notes, "uid is the number of the user who runs the step")
	}
	rest := strings.TrimSpace(first[min(len("RUN"), len(first)):])
	change := make([]string, 0, len(mounts)+1)
	for i, m := range mounts {
		if i == 0 {
			m = "RUN " + m
		} else {
			m = "    " + m
		}
		change = append(change, m+` \`)
	}
	if strings.HasPrefix(rest, "<<") || rest == `\` { // a here-document begins on the line of its RUN
		change[len(change)-1] = strings.TrimSuffix(change[len(change)-1], `\`) + rest
	} else {
		change = append(change, "    "+rest)
	}
	return report.Finding{
		Kind: report.CacheMount, Line: in.Line, Took: ran(n), Change: change, Note: strings.Join(notes, "; "),
		Text: fmt.Sprintf("%s downloads everything again whenever it runs: no cache mount for %s", short(in.Text), strings.Join(names, " and ")),
	}
}

func saidIn(notes []string, word string) bool {
	return slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, word) })
}

// ran is how long a step ran in this build.
func ran(n *node) report.Seconds {
	if n.missed() {
		return n.step.Took
	}
	return 0
}

// keepsDownloads tells whether a step above undoes Debian's docker-clean.
func (g *graph) keepsDownloads(n *node) bool {
	return slices.ContainsFunc(g.chain(n.stage, n.at), func(c engine.Instruction) bool {
		return strings.Contains(c.Script, "docker-clean") || strings.Contains(c.Script, "Keep-Downloaded-Packages")
	})
}

// unlocked is a cache that two builds would use at once, which its manager
// cannot.
func (g *graph) unlocked(m *manager, in engine.Instruction, around surroundings) (report.Finding, bool) {
	if !g.All || !m.locked {
		return report.Finding{}, false
	}
	for _, mount := range in.Mounts {
		if mount.Type == "cache" && m.mine(mount, m.caches(around)) && (mount.Sharing == "" || mount.Sharing == "shared") {
			return report.Finding{
				Kind: report.CacheMount, Line: in.Line,
				Text:   fmt.Sprintf("%s has a cache mount that two builds may use at once, which it cannot", m.name),
				Change: []string{"--mount=type=cache,target=" + mount.Target + ",sharing=locked"},
			}, true
		}
	}
	return report.Finding{}, false
}

// surroundings are what the instructions above a step set.
func (g *graph) surroundings(n *node) surroundings {
	s := surroundings{env: map[string]string{}, home: "/root"}
	user := ""
	for _, c := range g.chain(n.stage, n.at) {
		maps.Copy(s.env, c.Env)
		if c.Word == "USER" {
			user, _, _ = strings.Cut(c.Value, ":")
		}
	}
	base, _, _ := strings.Cut(g.foundation(n.stage).Base, "@")
	s.base, _, _ = strings.Cut(path.Base(base), ":")
	switch _, err := strconv.Atoi(user); {
	case user == "" || user == "root" || user == "0":
	case err == nil || strings.Contains(user, "$"):
		s.home, s.uid = "", user
	default:
		s.home, s.uid = "/home/"+user, "1000"
	}
	if home := s.env["HOME"]; home != "" && !strings.Contains(home, "$") {
		s.home = home
	}
	return s
}
