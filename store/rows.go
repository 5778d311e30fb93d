package store

import (
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// columnsOf lists the db tags of a row struct, in order.
func columnsOf(row any) []string {
	var columns []string
	for field := range reflect.TypeOf(row).Fields() {
		columns = append(columns, field.Tag.Get("db"))
	}
	return columns
}

// placeholders is "$1, $2", one for each column.
func placeholders(columns []string) string {
	marks := make([]string, len(columns))
	for i := range columns {
		marks[i] = "$" + strconv.Itoa(i+1)
	}
	return strings.Join(marks, ", ")
}

// assignments is "a = $1, b = $2".
func assignments(columns []string) string {
	set := make([]string, len(columns))
	for i, column := range columns {
		set[i] = column + " = $" + strconv.Itoa(i+1)
	}
	return strings.Join(set, ", ")
}

// valuesOf lists what a row struct has for its columns, in order.
func valuesOf(row any) []any {
	v := reflect.ValueOf(row)
	values := make([]any, v.NumField())
	for i := range values {
		values[i] = v.Field(i).Interface()
	}
	return values
}

// inUTC sets every time of the row struct that row points to in UTC: the
// PostgreSQL driver returns them in a zone without a name.
func inUTC(row any) {
	v := reflect.ValueOf(row).Elem()
	for i := range v.NumField() {
		switch t := v.Field(i).Addr().Interface().(type) {
		case *time.Time:
			*t = t.UTC()
		case **time.Time:
			if *t != nil {
				**t = (*t).UTC()
			}
		}
	}
}

func (a Action) utc() Action {
	inUTC(&a)
	return a
}

// maxText bounds a free text, in bytes.
const maxText = 2048

// text makes a free text fit for both databases: PostgreSQL takes neither NUL
// nor broken UTF-8, and would refuse the whole row. Empty becomes NULL.
func text(s string) *string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if s == "" {
		return nil
	}
	s = cut(s, maxText)
	return &s
}

// cut shortens valid UTF-8 to at most n bytes, between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// storable reports whether a key can be a column as it stands.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }
