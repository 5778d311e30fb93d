package storetest

// Structure asks for what of a schema no TRUNCATE puts back.
const Structure = structure
