// Command mirror prints the ten largest Go files and the ten longest functions below the current directory, tests and
// generated code left out. It judges nothing: it shows where to look.
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type entry struct {
	lines int
	name  string
}

func main() {
	log.SetFlags(0)
	var files, funcs []entry
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if ast.IsGenerated(f) {
			return nil
		}
		files = append(files, entry{bytes.Count(src, []byte("\n")), path})
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				start, end := set.Position(fn.Pos()), set.Position(fn.End())
				funcs = append(funcs, entry{end.Line - start.Line + 1, fmt.Sprintf("%s:%d %s", path, start.Line, fn.Name.Name)})
			}
		}
		return nil
	})
	if err != nil {
		log.Fatalf("mirror: %v", err)
	}
	show("lines  file", files)
	show("lines  function", funcs)
}

func show(title string, list []entry) {
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(b.lines, a.lines) })
	fmt.Println(title)
	for _, e := range list[:min(10, len(list))] {
		fmt.Printf("%5d  %s\n", e.lines, e.name)
	}
}
