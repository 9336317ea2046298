//go:build integration

package integration

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	recentFlag = regexp.MustCompile(` ?\\Recent\b`)
	codeOf     = regexp.MustCompile(`^(?:\* )?(?:(?:OK|NO|BAD) )?\[([A-Z-]+)(?: ([^]]*))?\]`)
	eventItem  = regexp.MustCompile(`^\* ESEARCH (?:\(TAG "[^"]*"\) ?)?`)
)

// fetched returns a FETCH response without its number, and without the UID if that was
// not asked for.
func fetched(line string, withUID bool) string {
	_, rest, _ := strings.Cut(line[2:], " ")
	rest = recentFlag.ReplaceAllString(rest, "")
	rest = strings.Replace(rest, "FLAGS ( ", "FLAGS (", 1)
	if !withUID {
		rest = regexp.MustCompile(`UID \d+ `).ReplaceAllString(rest, "")
		rest = regexp.MustCompile(` UID \d+\)$`).ReplaceAllString(rest, ")")
	}
	return rest
}

// canonical is an answer in one form: what may differ at any two servers is the same.
// News of the mailbox are left out; twins keep count of them.
func canonical(command string, lines []string) map[string]string {
	out := make(map[string]string)
	var lists []string
	name, _, _ := strings.Cut(strings.ToUpper(strings.TrimPrefix(command, "UID ")), " ")
	for _, line := range lines[:len(lines)-1] {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(line, "* "), " ")
		switch kind {
		case "SEARCH":
			out["SEARCH"] += sortNumbers(strings.Fields(rest))
		case "SORT", "THREAD":
			out[kind] += strings.TrimSpace(rest)
		case "ESEARCH":
			out["ESEARCH"] += esearched(eventItem.ReplaceAllString(line, ""), strings.Contains(strings.ToUpper(command), "SORT"))
		case "LIST", "LSUB", "STATUS":
			lists = append(lists, strings.Replace(line, "  ", " ", 1)) // what passes is as odd as it was
		case "NAMESPACE":
			out["NAMESPACE"] = rest
		default:
			m := numbered.FindStringSubmatch(line)
			if m != nil && m[2] == "FETCH" && (name == "FETCH" || name == "STORE") {
				out["FETCH "+m[1]] += fetched(line, strings.HasPrefix(command, "UID ") || strings.Contains(command, "UID)") || strings.Contains(command, "(UID"))
			}
			noteCode(out, line)
		}
	}
	last := lines[len(lines)-1]
	for key, value := range listed(append(lists, last)) {
		out[key] += value
	}
	noteCode(out, last)
	return out
}

// noteCode notes a response code that tells of messages, or of why a command has failed.
func noteCode(out map[string]string, line string) {
	m := codeOf.FindStringSubmatch(line)
	if m == nil {
		return
	}
	switch m[1] {
	case "COPYUID", "APPENDUID":
		_, sets, _ := strings.Cut(m[2], " ")
		var all []string
		for _, set := range strings.Fields(sets) {
			all = append(all, strings.Join(expand(set), ","))
		}
		out[m[1]] = strings.Join(all, " ")
	case "CAPABILITY", "UIDVALIDITY", "UIDNEXT", "UNSEEN", "PERMANENTFLAGS", "HIGHESTMODSEQ", "NOMODSEQ", "CLOSED", "MODIFIED", "CLIENTBUG":
	default:
		out["code"] = m[1]
	}
}

// expand returns the numbers of a set, in its order.
func expand(set string) (numbers []string) {
	for _, part := range strings.Split(set, ",") {
		a, b, isRange := strings.Cut(part, ":")
		first, err1 := strconv.Atoi(a)
		last, err2 := strconv.Atoi(b)
		if !isRange || err1 != nil || err2 != nil {
			numbers = append(numbers, part)
			continue
		}
		for n := min(first, last); n <= max(first, last); n++ {
			numbers = append(numbers, strconv.Itoa(n))
		}
	}
	return numbers
}

func sortNumbers(numbers []string) string {
	slices.SortFunc(numbers, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	return strings.Join(numbers, " ")
}

// esearched is an ESEARCH response in one form.
func esearched(text string, inOrder bool) string {
	words := strings.Fields(strings.NewReplacer("(", "", ")", "").Replace(text))
	var items []string
	for i := 0; i < len(words); i++ {
		item := words[i]
		take := func() string {
			if i++; i < len(words) {
				return words[i]
			}
			return "?"
		}
		numbers := func() string {
			all := expand(take())
			if !inOrder {
				return sortNumbers(all)
			}
			return strings.Join(all, " ")
		}
		switch item {
		case "MIN", "MAX", "COUNT":
			item += " " + take()
		case "ALL":
			item += " " + numbers()
		case "PARTIAL":
			item += " " + take() + " " + numbers()
		}
		items = append(items, item)
	}
	slices.Sort(items)
	return strings.Join(items, "; ")
}
