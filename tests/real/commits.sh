# A repository with a few commits, and its housekeeping.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
git init -q -b main .
for i in 1 2 3; do
    seq 1 $((i * 50)) > numbers
    echo "$i" > "file$i"
    git add .
    git commit -q -m "commit $i"
done
git log --oneline | cut -d' ' -f2-
git diff --stat HEAD~1
git checkout -q -b side HEAD~1
echo side > side
git add side
git commit -q -m side
git merge -q -m merged main
git status --short
git gc -q
git fsck
git count-objects -v | grep in-pack
