# git: a repository with a history, branches, a merge, a clone and a rebase.
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git config --global user.name A; git config --global user.email a@b; git config --global init.defaultBranch main; git config --global gc.auto 0
git init -q r && cd r; seq 1000 >a; git add a; git commit -qm first; git rev-parse HEAD; sed -i s/500/FIVE/ a; git diff --stat; git commit -qam second; git log --oneline | cat
git checkout -qb side HEAD~1; echo b >b; git add b; git commit -qm side; git checkout -q main; git merge -q side -m merged; git log --graph --format=%s | cat; git show --stat HEAD~1 | tail -n 2
git tag -a v1 -m v1; git describe; git status --short; echo c >c; git status --short; git stash -qu; git stash list; git stash pop -q; git clean -fdq; git grep -n FIVE; git blame -s a | sed -n 500p
git repack -adq; git fsck --strict; git gc -q; git count-objects -v | sed -n 1,4p | head -n 3; git archive HEAD | tar t; git bundle create -q ../x.bundle main; git cat-file -p 'HEAD^{tree}'
cd ..; git clone -q r c; cd c; git checkout -qb topic HEAD~1; echo t >t; git add t; git commit -qm topic; git rebase -q main; git log -1 --format=%H; git push -q origin topic; git -C ../r branch; git fetch -q; git format-patch -1 --stdout | git hash-object --stdin >/dev/null; git reset -q --hard HEAD~1; git reflog | wc -l
cd ..; git clone -q x.bundle y; git -C y log --oneline | wc -l; rm -rf r c y x.bundle .gitconfig
