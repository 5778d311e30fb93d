package consumer

import "crypto/rand"

// accessionLetters are Crockford's base32: digits and upper case letters without
// I, L, O and U, so that nobody who reads a number aloud mistakes one for another.
// There are 32, a power of two, which makes a random byte fall on each as often.
const accessionLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewAccessionNumber makes an accession number that no other worklist item has:
// 16 characters, all that DICOM's SH takes, of 32 letters from the system's
// secure random source. That is 80 bits: of 10,000 numbers a day for ten years,
// two are the same with a probability of 6 in 10,000,000,000 (the birthday bound).
//
// A date and a few digits will not do. With four hexadecimal digits after it, two
// of 300 items of one day have the same number on every other day, and a gateway
// answers the second of them as if it had been stored before: a participant
// without a worklist item, and nobody told.
//
// It never fails and is safe for concurrent use.
func NewAccessionNumber() string {
	number := make([]byte, maxAccession)
	rand.Read(number) // never fails: it ends the process instead
	for i, b := range number {
		number[i] = accessionLetters[int(b)%len(accessionLetters)]
	}
	return string(number)
}
