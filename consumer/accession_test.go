package consumer

import (
	"math"
	"strings"
	"testing"
)

// The promise of the documentation: of 10,000 numbers a day for ten years, two
// are the same with a probability below one in a billion.
func TestAccessionNumbersAreEnough(t *testing.T) {
	t.Parallel()
	const issued = 10_000 * 3653 // ten years hold three leap days at most
	if 256%len(accessionLetters) != 0 {
		t.Errorf("a random byte does not fall on each of %d letters as often", len(accessionLetters))
	}
	possible := math.Pow(float64(len(accessionLetters)), maxAccession)
	if p := float64(issued) * (issued - 1) / (2 * possible); p >= 1e-9 {
		t.Errorf("two of %d numbers are the same with a probability of %g", issued, p)
	}
}

func TestAccessionLetters(t *testing.T) {
	t.Parallel()
	for i, letter := range accessionLetters {
		if strings.ContainsRune(accessionLetters[:i], letter) {
			t.Errorf("%c is there twice", letter)
		}
		if strings.ContainsRune("ILOU", letter) || !strings.ContainsRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", letter) {
			t.Errorf("%c is a look-alike, or no digit and no upper case letter", letter)
		}
	}
}

func TestNewAccessionNumber(t *testing.T) {
	t.Parallel()
	const count = 200_000
	seen := make(map[string]bool, count)
	var used [256]int
	for range count {
		number := NewAccessionNumber()
		if len(number) != maxAccession || !fits(number, maxAccession) {
			t.Fatalf("%q is not %d characters long", number, maxAccession)
		}
		if seen[number] {
			t.Fatalf("%s came twice", number)
		}
		seen[number] = true
		for i := range len(number) {
			used[number[i]]++
		}
	}
	// Each letter is expected 100,000 times of 3,200,000. A tenth more or less is
	// thirty standard deviations: only a source that is not uniform gets there.
	expected := count * maxAccession / len(accessionLetters)
	for letter, n := range used {
		switch {
		case !strings.ContainsRune(accessionLetters, rune(letter)) && n > 0:
			t.Errorf("%q is not one of the letters", rune(letter))
		case strings.ContainsRune(accessionLetters, rune(letter)) && (n < expected*9/10 || n > expected*11/10):
			t.Errorf("%c came %d times, expected about %d", letter, n, expected)
		}
	}
}
