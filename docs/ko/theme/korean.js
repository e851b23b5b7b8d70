// Makes the search find Korean. What it is not: a search of its own.
//
// The search of mdBook (elasticlunr) strips from each word what is no letter, and takes only A to Z, digits and _ for
// letters, as \w of ECMAScript does. Of a Korean word nothing is left. Unicode's own idea of a letter keeps it.
if (window.elasticlunr) {
    window.elasticlunr.trimmer = (token) => token?.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, '');
    window.elasticlunr.Pipeline.registeredFunctions.trimmer = window.elasticlunr.trimmer;
}
