package config

import (
	"slices"
	"strings"
)

// suggest returns the known word that a misspelt one may have meant, or "".
func suggest(word string, known []string) string {
	normal := strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace
	given := normal(strings.ToLower(word))
	best, least := "", -1
	for _, k := range slices.Sorted(slices.Values(known)) {
		plain := normal(strings.ToLower(k))
		// A third of the letters may be wrong: more is another word.
		if d := distance(given, plain); d <= max(1, len(plain)/3) && (least < 0 || d < least) {
			best, least = k, d
		}
	}
	return best
}

// maxTypo bounds what is compared: no key is nearly as long.
const maxTypo = 64

// distance counts the letters that are wrong, missing, too many, or swapped with their neighbour.
func distance(a, b string) int {
	if len(a) > maxTypo || len(b) > maxTypo {
		return maxTypo
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
