export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
git init -q repository
cd repository || exit
cp ../text .
git add text
git -c user.name=a -c user.email=a@b commit -q -m one
git log --oneline
